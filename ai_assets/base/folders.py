"""Looking through folders that other processes change meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder and its subfolders, links to folders not followed. `Path.rglob` raises where a subfolder
    goes while it looks; here what has gone is left out."""
    for at, _, names in os.walk(folder):
        yield from (Path(at) / name for name in names)
