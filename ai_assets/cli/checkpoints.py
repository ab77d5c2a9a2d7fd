"""`ai-assets audit checkpoint | prove | accept-restored`: what others can hold of the audit chain, and check."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    console,
    errors,
    home,
    led,
    print_json,
    stores,
    stores_to_read,
)
from ai_assets.cli.signing import signer
from ai_assets.desk.settings import DeskSettings, load_desk
from ai_assets.signoff import checkpoints, proving, witnesses
from ai_assets.signoff.against import ours_at
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.people import EVERYWHERE
from ai_assets.signoff.witnesses import WitnessStatus
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

PATIENCE_S = 60.0


def checkpoint(
    since: Annotated[
        int | None,
        typer.Option(metavar="RECORDS", help="With the proof that the chain extends a checkpoint of so many records."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a checkpoint of the audit chain, print it, and give it to the witnesses of desk.yaml.

    It is a signed note (https://c2sp.org/tlog-checkpoint). With --since it is what a C2SP witness is asked to sign.
    """
    places, desk = stores(), load_desk(home().desk)
    made = checkpoints.make(places)
    with places.state.read() as connection:
        proof = None if since is None else checkpoints.extension(connection, since, made.note.size)
        words = proving.key_words(connection)
    found = _given(places, desk)
    if as_json:
        print_json({
            "size": made.note.size, "root": made.note.root.hex(), "note": made.note.text, "made_at": made.made_at,
            "new": made.new, "keys": words, "since": since, "extension": proof,
            "witnesses": [asdict(one) for one in found],
        })  # fmt: skip
        return
    if proof is not None:
        print(f"old {since}", *proof, "", sep="\n")
    print(made.note.text, end="")
    _show(found, made.note.size)
    errors.print("Public keys, to give to auditors:", *words, sep="\n  ")


def _given(places: Stores, desk: DeskSettings) -> list[WitnessStatus]:
    channels = {name: channel.url_env for name, channel in desk.channels.items()}
    declared = desk.checkpoints.witnesses
    if declared:
        errors.print(f"giving it to {plural(len(declared), 'witness')}")
        witnesses.deliver(places, declared, channels, now(), budget_s=PATIENCE_S, at_once=True)
    with places.state.read() as connection:
        return witnesses.standings(connection, declared)


def _show(found: Sequence[WitnessStatus], size: int) -> None:
    """Beside the note, which goes to standard output alone."""
    for one in found:
        if one.size == size:
            errors.print(f"{one.witness}: has it ({_short(one.receipt)})")
        else:
            errors.print(led(f"{one.witness}: has not got it.", "red", f" {problem(one)}"))
    if not found:
        errors.print("No witness is declared: checkpoints are kept in this home only (docs/audit.md, Witnesses).")


def problem(one: WitnessStatus) -> str:
    has = f"its newest is of {plural(one.size, 'record')}" if one.size is not None else "it has none yet"
    if one.error is None:
        return f"It is under way; {has}."
    tries = f"tried {plural(one.attempts, 'time')}, next at {(one.next_try_at or '')[11:16]} UTC"
    return f"{one.error.rstrip('.')} ({tries}; {has})."


def _short(receipt: str | None) -> str:
    return receipt if receipt and len(receipt) < 200 else "its receipt is in the state store and beside the note"


def say_problems(places: Stores) -> None:
    """Of witnesses, for a command that shows how things stand."""
    try:
        declared = load_desk(places.home.desk).checkpoints.witnesses
    except UserError as error:
        console.print(led("witnesses:", "red", f" {error}"))
        return
    with places.state.read() as connection:
        last = checkpoints.newest(connection)
        for one in witnesses.standings(connection, declared) if last is not None else ():
            if one.error is not None and last is not None and one.size != last.size:
                text = f" has not got the newest checkpoint of the audit chain. {problem(one)}"
                console.print(led(f"Witness {one.witness}", "red", text))


def prove(
    name: CollectionName,
    release: Annotated[int | None, typer.Option(help="Which release; the live one by default.")] = None,
    document: Annotated[
        str | None, typer.Option(help="Also prove that this document is in it, and what it says.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The file; what verifies it is written beside it.")
    ] = None,
) -> None:
    """A proof of what was published and who approved it, as JSON that needs nothing of ours to be verified.

    It holds records of the audit chain; with --document also that document's row.
    """
    proof = proving.prove(stores_to_read(), name, release, document)
    if out is None:
        print(proving.as_text(proof), end="")
        errors.print(f"Verify it: python3 {proving.VERIFIER} FILE --key KEY")
        return
    beside = proving.write(proof, out)
    console.print(f"Written to {out}. Whoever gets it verifies it with nothing but Python:")
    keys = proof["keys"]
    given = " ".join(f"--key {key}" for key in keys) if isinstance(keys, list) else ""
    console.print(f"  python3 {beside} {out} {given}", soft_wrap=True)
    console.print("They should have the keys from somewhere else than from this file.")


def accept_restored(
    reason: Annotated[str, typer.Option("--reason", help="Recorded in the audit chain.")],
    against: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="What a witness holds: how far the chain had come, where this home is new."),
    ] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Go on with an older state store that was restored on purpose; the chain says so from then on."""
    person = signer(by)
    if not person.may("admin", EVERYWHERE):
        raise DecisionRefused(person.name, "accepting a restored store takes the role admin in all collections (*)")
    places = stores()
    lost = [] if against is None else ours_at(places, against)
    made = checkpoints.accept_restored(places, by=person.name, reason=reason, lost=lost)
    if as_json:
        print_json({"size": made.note.size, "note": made.note.text})
    else:
        console.print(f"Accepted, and recorded. The audit chain goes on from record {made.note.size}.")
