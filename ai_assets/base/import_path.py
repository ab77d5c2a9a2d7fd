"""Where the code of a user's project is imported from, when it is not installed."""

import sys
from collections.abc import Sequence
from pathlib import Path


def look_first_in(folders: Sequence[Path]) -> None:
    """In this order, before anything that is installed; a folder that is on the path stays in its place."""
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
