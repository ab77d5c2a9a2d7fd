"""The `ai-assets` command."""

from ai_assets.cli.app import main

__all__ = ["main"]
