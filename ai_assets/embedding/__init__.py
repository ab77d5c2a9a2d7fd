"""Vectors of texts: which ones a collection has, and who makes them."""
