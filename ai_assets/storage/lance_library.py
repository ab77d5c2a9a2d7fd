"""LanceDB, imported as we want it: it reads its settings from the environment, once."""

import importlib
import os
from typing import Any

_LOG = "LANCEDB_LOG"


def lancedb() -> Any:
    """The package. It tells of errors alone, unless the user wants more: that an index has few vectors for its cells is
    nothing that whoever publishes could do anything about."""
    os.environ.setdefault(_LOG, "error")
    return importlib.import_module("lancedb")
