"""The outside world: stores, sources, indexes and model backends. Nothing here knows what a document is."""
