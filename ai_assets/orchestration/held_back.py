"""While the files of a code location do not load, nothing is started from it: a run loads them again, and would fail.

`ai-assets up` notes why; sensors and schedules look, and skip with that as the reason.
"""

import json
from hashlib import sha256
from pathlib import Path

from ai_assets.base.durable import write_whole
from ai_assets.base.home import LOCATION_VARIABLE, Home, variable
from ai_assets.base.processes import identity, is_alive


def hold_back(home: Home, location: str, why: str) -> None:
    write_whole(_file(home, location), json.dumps({"up": identity(), "why": why}).encode())


def let_go(home: Home, location: str) -> None:
    _file(home, location).unlink(missing_ok=True)


def held_back(home: Home) -> str | None:
    """Why nothing should be started from this code location now; None where `ai-assets up` does not say so."""
    location = variable(LOCATION_VARIABLE)
    if location is None:
        return None
    try:
        found = json.loads(_file(home, location).read_text(encoding="utf-8"))
        why, up = str(found["why"]), str(found["up"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"the files of the definitions do not load, and this waits until they do: {why}" if is_alive(up) else None


def _file(home: Home, location: str) -> Path:
    return home.root / f"held-back-{sha256(location.encode()).hexdigest()[:12]}.json"
