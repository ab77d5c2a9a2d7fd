"""Giving each document one label of a declared set: the kind, the built-in classifier, what it looks at."""
