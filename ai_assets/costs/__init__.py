"""Money over all collections: what was spent, on what, and what is left."""
