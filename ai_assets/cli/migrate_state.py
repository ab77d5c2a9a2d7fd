"""`ai-assets migrate-state`: the state store of the home, carried to another database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.backup.moving import Move, move_state, require_movable
from ai_assets.base.plural import plural
from ai_assets.cli.output import AsJson, console, drawn_bar, errors, home, print_json, table

Target = Annotated[
    str, typer.Option("--to", help="Address of an empty database: postgresql://user@host/name, or sqlite:///FILE.")
]


def migrate_state(
    to: Target,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Carry the state store to another, empty database; the old one is kept, marked as moved, and refused from then on.

    Nothing may run meanwhile. Killed, it leaves nothing half: run it again.
    """
    place = home()
    require_movable(place, to)
    if not yes:
        typer.confirm("Copy the state store, and use the copy from then on?", abort=True, err=True)
    with _bar(quiet=as_json) as advance:
        done = move_state(place, to, advance)
    if as_json:
        print_json(asdict(done))
    else:
        _show(done, environment=place.environment, is_postgres=to.startswith("postgres"))


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """On a terminal; elsewhere a line for each table."""
    if quiet or not console.is_terminal:
        said: list[str] = []

        def tell(name: str, done: int, total: int) -> None:
            if not quiet and name not in said:
                said.append(name)
                errors.print(f"copying {name} ({done:,} of {plural(total, 'row')} so far)")

        yield tell
        return
    with drawn_bar("state store") as update:
        yield lambda name, done, total: update(description=name, completed=done, total=total)


def _show(done: Move, *, environment: str, is_postgres: bool) -> None:
    filled = [each for each in done.tables if each.rows]
    if filled:
        rows = [[each.name, f"{each.rows:,}", each.digest[:16]] for each in filled]
        table("", ["table", "rows", "digest"], rows, right=["rows"])
    else:
        console.print("An earlier attempt had copied everything; its end was made up for.")
    tables = plural(len(done.tables), "table agrees", "tables agree") if done.tables else "all tables agree"
    console.print(
        f"{done.source} is now {done.target}. Rows and digests of {tables}, and the "
        f"audit chain of {plural(done.audit_records, 'record')} holds there. The "
        "old store is kept and refuses to be used."
    )
    if is_postgres:
        console.print("Now set AI_ASSETS_STATE_URL to that address, with its password, wherever ai-assets runs.")
        if environment == "local":
            console.print(
                "With `environment: server` in operations.yaml Dagster's runs and events are kept there too; those "
                "from before stay in the home (docs/server.md)."
            )
    else:
        console.print("Now set AI_ASSETS_STATE_URL to that address, or unset it where it is the home's own state.db.")
