"""Runs and their steps as pods, by dagster-k8s, which is imported here and nowhere else, and only in a cluster."""
