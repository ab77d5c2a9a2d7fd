"""Who edited the prompts last, which make what is to be signed. Who started the run is `launches`."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_GIT_TIMEOUT_S = 10.0


def authors(prompts: Sequence[Path]) -> list[Mapping[str, str]]:
    """Each as `who` and `did`; a person may be there under a name and under an address."""
    found = [{"who": who, "did": f"edited {path.name} last"} for path in prompts for who in _last_editors(path)]
    return list({(author["who"], author["did"]): author for author in found}.values())


def _last_editors(path: Path) -> list[str]:
    """Name and address of the last commit's author; nobody is known of a file outside of git."""
    command = ["git", "-C", str(path.parent), "log", "-1", "--format=%an%n%ae", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
