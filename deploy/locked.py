"""The part of requirements.lock that some packages of it need, with its hashes; printed for `pip install -r`.

For the image, whose stages have pip and this file: `locked.py EXTRA,EXTRA` takes extras of pyproject.toml, and
`locked.py --packages NAME,NAME` packages. Pip resolves against the versions of the lock and downloads nothing but what
it must to know what needs what.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path


def blocks(lock: str) -> dict[str, list[tuple[str, str]]]:
    """By package, each pin alone and with its hashes: one package has several where they differ by Python."""
    found: dict[str, list[tuple[str, str]]] = {}
    for block in re.split(r"\n(?=\S)", lock.strip()):
        pin = block.split("\\")[0].strip()
        found.setdefault(named(pin), []).append((pin, block))
    return found


def named(requirement: str) -> str:
    return re.split(r"[\s\[=<>!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def wanted(extras: list[str]) -> list[str]:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for extra in extras for each in optional[extra])]


def resolved(requirements: list[str], pins: list[str]) -> list[str]:
    constraints = Path("/tmp/constraints.txt")
    constraints.write_text("\n".join(re.sub(r"\[.*?\]", "", pin) for pin in pins))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    own = [each for each in requirements if not each.startswith("ai-assets")]
    report = subprocess.run([*command, "-c", str(constraints), *own], check=True, stdout=subprocess.PIPE).stdout
    return sorted(named(item["metadata"]["name"]) for item in json.loads(report)["install"])


def main() -> None:
    packages = sys.argv[1] == "--packages"
    names = sys.argv[-1].split(",")
    lock = blocks(Path("requirements.lock").read_text())
    found = resolved(names if packages else wanted(names), [pin for pins in lock.values() for pin, _ in pins])
    if missing := [name for name in found if name not in lock]:
        sys.exit(f"error: requirements.lock has no {', '.join(missing)}; run `make lock` and build again")
    print("\n".join(block for name in found for _, block in lock[name]))


if __name__ == "__main__":
    main()
