"""`/metrics` of the desk: figures of the whole installation for Prometheus, read from the state store."""
