"""`ai-assets targets`: databases, buckets and programs that releases are written to, built anew from a release."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.cli.errors import RebuildNotConfirmed
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    collection,
    confirm,
    console,
    drawn_bar,
    errors,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.signoff.policy_facts import require_access
from ai_assets.targets import rebuilding
from ai_assets.targets.rebuilding import PlannedRebuild, Seen

app = typer.Typer(help="Where releases are written beside the index.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Where releases are written beside the index."""


@app.command("rebuild")
def rebuild(
    name: CollectionName,
    target: Annotated[str | None, typer.Option("--target", help="Which one; all of the collection by default.")] = None,
    release: Annotated[int | None, typer.Option("--release", help="From which one; the live one by default.")] = None,
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build targets anew from the files of a release, whatever is there; after a kill the same command goes on."""
    chosen, places = collection(name), stores_to_read() if dry_run else stores()
    found, planned = rebuilding.plan(places, chosen, target, release)
    if not as_json:
        _show(name, planned)
    if dry_run:
        if as_json:
            print_json([asdict(each) for each in planned])
        return
    confirm(RebuildNotConfirmed(), "Nothing was changed.", sure=yes, quiet=as_json)
    person = signer(by)
    require_access(chosen, person, "rebuild targets")
    with _progress(planned) as seen:
        done = rebuilding.rebuild(
            places, chosen, found, [each.target for each in planned], by=person, say=errors.print, seen=seen
        )
    if as_json:
        print_json([asdict(each) for each in done])
    if any(each.finished_at is None for each in done):
        raise typer.Exit(1)


def _show(name: str, planned: Sequence[PlannedRebuild]) -> None:
    release = planned[0].release
    rows = [
        (each.target, each.documents, each.chunks, _meanwhile(each), each.begun_at and each.begun_at[:16])
        for each in planned
    ]
    columns = ("target", "documents", "passages", "readers meanwhile", "goes on since (UTC)")
    table(f"To be rebuilt from release {release} of {name}", columns, rows, ("documents", "passages"))


def _meanwhile(planned: PlannedRebuild) -> str:
    if not planned.shown:
        return "see the live release, which stays"
    if planned.beside:
        return "see what is there, until it is replaced at once"
    return "may see part of it: this target writes over what is there"


@contextmanager
def _progress(planned: Sequence[PlannedRebuild]) -> Iterator[Seen]:
    """A bar on a terminal; elsewhere nothing but what the targets say."""
    rows = {each.target: each.rows for each in planned}
    if not console.is_terminal:
        yield lambda _target, _rows: None
        return
    with drawn_bar("rows read") as draw:
        yield lambda target, read: draw(description=target, completed=read, total=rows[target])
