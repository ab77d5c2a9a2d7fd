"""Kinds of stages: what is made of a document."""
