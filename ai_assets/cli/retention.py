"""`ai-assets retention`: removing now what the sensor removes from time to time, and legal holds."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ai_assets.base.home import HomeUnusable
from ai_assets.base.plural import plural
from ai_assets.base.tenants import load_tenants
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    all_collections,
    console,
    errors,
    home,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.retention import holds
from ai_assets.retention.disk import Disk
from ai_assets.retention.disk import disk as disk_of
from ai_assets.retention.leftovers import KINDS, RetentionContext
from ai_assets.retention.sweep import find, sweep
from ai_assets.run.operations import load_operations
from ai_assets.storage.stores import Stores, is_there

if TYPE_CHECKING:
    from dagster import DagsterInstance

app = typer.Typer(help="What is no longer needed, and what must be kept.", no_args_is_help=True)
WAIT_S = 600.0
MOST_SHOWN = 40

Number = Annotated[int | None, typer.Option("--release", help="One release; everything of the collection by default.")]
Reason = Annotated[str, typer.Option("--reason", help="Recorded in the audit chain.")]


@app.command("run")
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what operations.yaml does not keep; also where the sensor is switched off."""
    from ai_assets.orchestration.instance import instance

    places = stores_to_read() if dry_run else stores()
    with _dagster_to_read() if dry_run else instance(home()) as dagster:
        bench = _bench(places, dagster)
        if dry_run:
            found = list(find(bench))
            plain = [{"kind": each.kind, "what": each.what, "bytes": each.size} for each in found]
            if as_json:
                print_json(plain)
                return
            rows = [(each.kind, each.what, "?" if each.size is None else f"{each.size:,}") for each in found]
            table(
                "Would be removed" if rows else "Nothing would be removed.", ("kind", "what", "bytes"), rows, ("bytes",)
            )
            return
        swept = sweep(bench, say=errors.print, wait_s=WAIT_S)
    if as_json:
        print_json({"removed": swept.number, "bytes": swept.size, "in_use": swept.in_use})
        return
    for kind, number in swept.number.items():
        console.print(f"{number} x {KINDS[kind]}: {plural(swept.size[kind], 'byte')}")
    if not swept.number:
        console.print("Nothing was to be removed.")
    if swept.in_use:
        console.print(f"{swept.in_use} in use now; they go the next time.")


@app.command("hold")
def hold(name: CollectionName, release: Number = None, by: By = None, reason: Reason = "") -> None:
    """Legal hold: keep a release, or everything of a collection, whatever operations.yaml says."""
    _require(reason)
    holds.place(stores().state, name, release, by=signer(by), reason=reason)
    console.print(f"Kept until 'ai-assets retention release-hold': {_what(name, release)}.")


@app.command("release-hold")
def release_hold(name: CollectionName, release: Number = None, by: By = None, reason: Reason = "") -> None:
    """End a legal hold; operations.yaml decides again."""
    _require(reason)
    holds.lift(stores().state, name, release, by=signer(by), reason=reason)
    console.print(f"No longer held: {_what(name, release)}.")


@app.command("holds")
def list_holds(as_json: AsJson = False) -> None:
    """The legal holds in force."""
    with stores_to_read().state.read() as connection:
        found = holds.current(connection)
    if as_json:
        print_json([vars(each) for each in found])
        return
    rows = [(each.collection, each.release or "all", each.by, each.at[:16], each.reason) for each in found]
    columns = ("collection", "release", "by", "since (UTC)", "reason")
    table("Legal holds" if rows else "There is no legal hold.", columns, rows)


def show_disk(*, as_json: bool) -> None:
    """For `status --disk`."""
    with _dagster_to_read() as dagster:
        found = disk_of(_bench(stores_to_read(), dagster))
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: Disk) -> None:
    rows = [(place.name, f"{place.size:,}", f"{place.files:,}") for place in found.places]
    table(
        f"{found.home}: {plural(found.free, 'byte is', 'bytes are')} "
        "free on its disk", ("part", "bytes", "files"), rows,
          ("bytes", "files"))  # fmt: skip
    gone = [(each.what, each.number, "?" if each.size is None else f"{each.size:,}") for each in found.may_go]
    table("May go" if gone else "Nothing may go now.", ("what", "number", "bytes"), gone, ("number", "bytes"))
    settings = load_operations(home().operations).retention
    when = f"every {settings.every_hours:g} hours" if settings.enabled else "not by itself (retention.enabled: false)"
    console.print(led("Removed", "bold", f" {when} while `ai-assets up` runs; now by: ai-assets retention run"))


@contextmanager
def _dagster_to_read() -> "Iterator[DagsterInstance | None]":
    """None where no run was started yet, or the home cannot be written: Dagster opens no other."""
    from ai_assets.orchestration.instance import instance

    at = home()
    with ExitStack() as opened:
        found = None
        try:
            found = opened.enter_context(instance(at)) if is_there(at) else None
        except HomeUnusable as error:
            errors.print(f"Runs of Dagster are left out. {error}")
        yield found


def _bench(places: Stores, dagster: "DagsterInstance | None") -> RetentionContext:
    return RetentionContext(
        stores=places,
        settings=load_operations(places.home.operations).retention,
        tenants=load_tenants(places.home.operations),
        collections=all_collections(signed=True),
        instance=dagster,
    )


def _require(reason: str) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why; it is recorded in the audit chain", param_hint="--reason")


def _what(name: str, release: int | None) -> str:
    return f"release {release} of {name}" if release is not None else f"everything of {name}"
