"""Builds the cost warehouse of a home, or reads it over and over: `python -m programs.costs build|read FOLDER`.

It says "ready" when its imports are over, and begins when a line comes.
"""

import json
import sys
from pathlib import Path

import dagster_dbt  # noqa: F401 - so that a build begins at once
import duckdb
from warehouses import build, home_of

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import reading


def main(what: str, folder: str) -> None:
    home = home_of(Path(folder))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps({"build": building, "read": looking}[what](home)) + "\n")


def building(home: Home) -> dict[str, object]:
    with Stores.at(home) as stores:
        try:
            return {"unchanged": build(stores).unchanged}
        except UserError as error:
            return {"error": f"{type(error).__name__}: {error}"}


def looking(home: Home) -> dict[str, object]:
    """Each look is one connection, and all its marts must be of one build."""
    looks, torn, seen = 0, 0, []
    stop = Path(home.root) / "stop"
    while not stop.exists() or not looks:
        with reading(home.warehouse) as connection:
            for _ in range(3):
                looks += 1
                sums = [
                    look(connection, table)
                    for table in ("raw.days", "marts.spend", "marts.waste", "staging.stg_attempts")
                ]
                torn += len(set(sums)) > 1
                if not seen or seen[-1] != sums[0]:
                    seen.append(sums[0])
    return {"looks": looks, "torn": torn, "seen": seen}


def look(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    return str(connection.execute(f"SELECT sum(cost_usd) FROM {table}").fetchall()[0][0])  # noqa: S608


if __name__ == "__main__":
    main(*sys.argv[1:])
