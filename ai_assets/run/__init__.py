"""Bringing partitions up to date, without Dagster."""
