"""Where a release goes beside the built-in index: a database, a bucket, another team's folder.

A target of your own derives from `Target` and is named under `publish: {to: [...]}` in defs.yaml.
"""

from ai_assets.targets.base import Receipt, Target, TargetRelease

__all__ = ["Receipt", "Target", "TargetRelease"]
