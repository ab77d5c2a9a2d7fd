"""Vectors of texts: which ones a collection has, and who makes them.

An embedder of your own derives from `Embedder` and is named under `embedding: {use: module:name}` in defs.yaml.
"""

from ai_assets.embedding.embed import Embedder

__all__ = ["Embedder"]
