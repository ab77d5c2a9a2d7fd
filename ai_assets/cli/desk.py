"""`ai-assets desk`: the sign-off desk. Its options live beside it, for it starts as a module too."""

from ai_assets.desk.command import desk

__all__ = ["desk"]
