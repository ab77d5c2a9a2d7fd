"""Documents: where they come from, what is in the source, how they are parsed and divided."""
