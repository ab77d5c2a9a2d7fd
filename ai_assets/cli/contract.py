"""`ai-assets contract`: what readers of a collection's releases are promised, and whether it is kept."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.durable import write_whole
from ai_assets.base.plural import plural
from ai_assets.cli.errors import ContractUnwritable, NoContract, OneForm
from ai_assets.cli.output import AsJson, CollectionName, collection, console, print_json, stores_to_read, table
from ai_assets.collection.contract import FILE, Contract, ContractSettings
from ai_assets.collection.contract_reading import (
    TABLES,
    broken_by_definition,
    broken_passed_over,
    contract_text,
    read_contract_file,
)
from ai_assets.reading.contract_schemas import dbt_sources, json_schema
from ai_assets.signoff import releases
from ai_assets.signoff.contract_draft import (
    ContractDraft,
    MadeOf,
    broken_in_release,
    drafted,
    found_in_definitions,
    found_in_release,
    said_in_definitions,
)
from ai_assets.signoff.contracts import broken_release, published_contracts, why_undeclarable
from ai_assets.signoff.releases import Release, ReleasedContract

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

LIVE = "live"


def contract(
    name: CollectionName,
    as_schema: Annotated[bool, typer.Option("--json-schema", help="JSON Schema of a row.")] = False,
    as_sources: Annotated[bool, typer.Option("--dbt-sources", help="sources.yml for a dbt project.")] = False,
    location: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="With --dbt-sources: where an export as Parquet lies, for dbt-duckdb."),
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="RELEASE", help="Hold a release against it: a number, or live.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help=f"Write it, as {FILE} beside defs.yaml.")] = False,
    of: Annotated[MadeOf, typer.Option("--of", help="With --write: made of what.")] = "live",
    every: Annotated[bool, typer.Option("--all", help="With --write: promise columns that are new, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """What readers of a release are promised, whether it is kept, and as JSON Schema or dbt sources.

    Exit code 1 where it is broken. With --write it is made of the live release, or of what the definitions make; a
    contract that is there keeps its columns, and its version is raised where the change would break it.
    """
    if sum((as_schema, as_sources, check is not None, write)) > 1:
        raise OneForm
    if write:
        _write(name, of, every=every, as_json=as_json)
    elif check is not None:
        _check(name, check, as_json=as_json)
    elif as_schema or as_sources:
        with broken_passed_over():
            chosen = collection(name, signed=True)
        known, of_asset = said_in_definitions(chosen), chosen.signed_asset is not None
        promised = _promised(name)
        if as_schema:
            print_json(json_schema(name, promised, known, of_asset=of_asset))
        else:
            sys.stdout.write(dbt_sources(name, promised, known, location, of_asset=of_asset))
    else:
        _show(name, as_json=as_json)


def _promised(name: str) -> Contract:
    """As declared, else as what is live was published with."""
    chosen = collection(name, signed=True)
    if chosen.contract is not None:
        return chosen.contract.contract
    with stores_to_read() as places, places.state.read() as connection:
        live = releases.live(connection, name)
    if live is None or live.contract is None:
        raise NoContract(name)
    return live.contract.contract


def _show(name: str, *, as_json: bool) -> None:
    chosen = collection(name, signed=True)
    with stores_to_read() as places, places.state.read() as connection:
        live = releases.live(connection, name)
        problem = why_undeclarable(chosen, published_contracts(connection, name))
    declared = chosen.contract
    promised = live.contract if live else None
    if declared is None and promised is None:
        raise NoContract(name)
    broken = list(map(str, broken_by_definition(chosen)))
    shown = declared.contract if declared else promised.contract if promised else None
    assert shown is not None
    if as_json:
        print_json({
            "collection": name,
            "declared": declared is not None,
            "digest": shown.digest,
            "on_break": declared.on_break if declared else None,
            "place": declared.place if declared else None,
            "live": _of_live(live, promised),
            "problem": problem,
            "broken_by_definitions": broken,
            **shown.as_data(),
        })  # fmt: skip
    else:
        if declared is not None:
            what = "is refused" if declared.on_break == "refuse" else "can be waived by who approves"
            console.print(f"{name}: {shown}, in {declared.place}; a candidate that breaks it {what}.")
        console.print(_live_said(live, promised))
        table("", ("Table", "Column", "Type", "Required", "Values"), list(_rows(shown)))
        for each in broken:
            console.print(f"Broken by the definitions: {each}", style="red")
        if problem:
            console.print(f"It cannot be published: {problem}", style="red")
    if problem or broken:
        raise typer.Exit(1)


def _of_live(live: Release | None, promised: ReleasedContract | None) -> dict[str, Any] | None:
    if live is None:
        return None
    told = {"version": promised.version, "digest": promised.digest, "broken": list(promised.broken)} if promised else {}
    return {"release": live.number, "contract": told or None}


def _live_said(live: Release | None, promised: ReleasedContract | None) -> str:
    if live is None:
        return "No release is live."
    if promised is None:
        return f"Release {live.number}, which is live, promises nothing."
    broken = f"; {', '.join(promised.broken)} may break it" if promised.broken else ""
    return f"Release {live.number}, which is live, promises {promised.contract}{broken}."


def _rows(shown: Contract) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            table_,
            column,
            each.in_words.partition(" ")[2],
            "required" if each.required else "",
            ", ".join(each.values or ()),
        )
        for table_ in TABLES
        for column, each in shown.of(table_).items()
    ]


def _check(name: str, wanted: str, *, as_json: bool) -> None:
    if wanted != LIVE and not wanted.isdecimal():
        raise typer.BadParameter(f"'{wanted}' is no release: write its number, or {LIVE}", param_hint="--check")
    promised = _promised(name)
    with stores_to_read() as places:
        release = _release(places, name, None if wanted == LIVE else int(wanted))
        broken = broken_release(promised, places, release)
    if as_json:
        print_json({
            "collection": name, "release": release.number, "version": promised.version, "digest": promised.digest,
            "kept": not broken, "broken": broken,
        })  # fmt: skip
    elif not broken:
        console.print(
            f"Release {release.number} of {name} keeps {promised}: {plural(len(release.parts), 'partition')}."
        )
    else:
        console.print(f"Release {release.number} of {name} breaks {promised}:", style="red")
        for partition, why in broken.items():
            for each in why:
                console.print(f"  {partition}: {each}")
    if broken:
        raise typer.Exit(1)


def _release(places: "Stores", name: str, number: int | None) -> Release:
    with places.state.read() as connection:
        return releases.require_live(connection, name) if number is None else releases.get(connection, name, number)


def _write(name: str, of: MadeOf, *, every: bool, as_json: bool) -> None:
    with broken_passed_over():
        chosen = collection(name, signed=True)
    if chosen.signed_asset is not None and of == "definitions":
        raise typer.BadParameter(f"{name} is a signed asset: its rows alone say what it has; write it of what is live",
                                 param_hint="--of")  # fmt: skip
    declared = chosen.settings.contract
    by_default = FILE if chosen.signed_asset is None else f"{name}.{FILE}"
    path = chosen.folder / (declared.file if declared and declared.file else by_default)
    before = _before(name, declared, path)
    with stores_to_read() as places:
        with places.state.read() as connection:
            published = published_contracts(connection, name)
        if of == "definitions":
            draft = drafted(chosen, found_in_definitions(chosen), before, published, {}, every=every)
            made = "what the definitions make"
        else:
            release = _release(places, name, None)
            found = found_in_release(chosen, places, release)
            draft = drafted(chosen, found, before, published, {}, every=every)
            broken = broken_in_release(draft.contract, places, release)
            draft = drafted(chosen, found, before, published, broken, every=every)
            made = f"release {release.number}"
    text = contract_text(name, draft.contract, f"What readers of {name} may rely on. Made of {made}.")
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ContractUnwritable(path, error) from error
    how = f"in {chosen.folder / DEFS_FILE}:  contract: {{file: {path.name}}}"
    if chosen.signed_asset is not None:
        how = f'with the asset:  signed({chosen.signed_asset}, contract={{"file": "{path.name}"}})'
    _tell(name, draft, path, how, named=declared is not None and declared.file is not None, as_json=as_json)


def _before(name: str, declared: ContractSettings | None, path: Path) -> Contract | None:
    if declared is not None and declared.file is None and declared.version is not None:
        return Contract(version=declared.version, columns=declared.columns, chunks=declared.chunks)
    return read_contract_file(path, name, declared or ContractSettings(file=FILE)).contract if path.is_file() else None


def _tell(name: str, draft: ContractDraft, path: Path, how: str, *, named: bool, as_json: bool) -> None:
    if as_json:
        print_json({
            "collection": name, "file": str(path), "digest": draft.contract.digest,
            "before": draft.before.version if draft.before else None, "changes": list(map(str, draft.changes)),
            "left_out": list(draft.left_out), "declared": named, **draft.contract.as_data(),
        })  # fmt: skip
        return
    promised = len(draft.contract.columns) + len(draft.contract.chunks)
    console.print(f"{path}: {draft.contract}, {plural(promised, 'column')}.")
    for each in draft.changes:
        console.print(f"  {each}")
    if draft.left_out:
        console.print(f"Not promised (with --all they are): {', '.join(draft.left_out)}")
    if not named:
        console.print(f"Declare it {how}")
