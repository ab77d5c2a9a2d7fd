"""Erasing a document's text on request, everywhere in a home; its digests and who asked stay."""
