"""Dagster's side: thin shells that bind keys, partitions, checks and metadata to the datasets."""
