"""What must hold of a dataset: Great Expectations suites and gates on evaluation scores."""
