"""A fixed set of questions, asked of an endpoint on a schedule: whether the model behind its name is still the same."""
