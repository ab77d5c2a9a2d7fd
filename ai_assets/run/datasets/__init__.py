"""Datasets of one partition: each module binds a pure stage to the lake, and computes only what changed."""
