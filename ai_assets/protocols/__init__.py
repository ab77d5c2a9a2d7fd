"""How models are spoken to. Nothing here knows what a document is."""
