"""What a backup has copied so far, and which files of an index it copies in which order."""

from dataclasses import dataclass, field

from ai_assets.backup.manifest import FileEntry

INDEX_ORDER = ("_refs", "_versions", "")
"""Tags, then versions, then data: a version that is copied has all its data, whatever is written meanwhile."""
MADE_AGAIN = "evaluation"
"""Evaluation indexes are made from the lake by the next run."""


@dataclass
class CopiedFiles:
    """What was copied so far, and what was not."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
