"""`ai-assets provider`: a local server to rehearse on. Its options live beside it, for it starts as a module too."""

from ai_assets.rehearsal.command import provider

__all__ = ["provider"]
