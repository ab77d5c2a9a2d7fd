"""`ai-assets held`: documents that wait for a person while the others go on, and decisions on them."""

from typing import Annotated, Any

import typer

from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    all_collections,
    collection,
    console,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.collection.loading import Collection
from ai_assets.signoff import hold_certificates, holds
from ai_assets.signoff.errors import HeldDecisionRefused
from ai_assets.signoff.held_status import HeldItem, HeldStatus, held_status
from ai_assets.signoff.holds import HeldDocument, Verdict

app = typer.Typer(help="Documents that wait for a person while the others go on.", no_args_is_help=True)
OfStage = Annotated[str | None, typer.Option("--stage", help="Which stage's.")]
OfPartition = Annotated[str | None, typer.Option("--partition", help="Which partition's.")]
MOST_SHOWN = 40


@app.command("list")
def list_held(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    partition: OfPartition = None,
    stage: OfStage = None,
    as_json: AsJson = False,
) -> None:
    """What waits, those that are worth most first, and the thresholds that are certified."""
    chosen = [collection(name)] if name else [each for each in all_collections() if each.holding]
    with stores_to_read().state.read() as connection:
        found = {each.name: held_status(connection, each, partition=partition, stage=stage) for each in chosen}
    if as_json:
        print_json([{"collection": each, **_plain(status)} for each, status in found.items()])
        return
    if not any(status.items for status in found.values()):
        console.print("No document is held." if chosen else "No stage holds documents: see docs/holds.md.")
    for each, status in found.items():
        _show(each, status)


def _plain(status: HeldStatus) -> dict[str, Any]:
    return {
        "held": [item.plain for item in status.items],
        "agreement": {
            "documents": status.agreement.documents,
            "alpha": status.agreement.alpha,
            "pairs": [vars(pair) for pair in status.agreement.pairs],
        },
        "thresholds": [vars(found) for found in status.certificates],
    }


def _show(name: str, status: HeldStatus) -> None:
    for found in status.certificates:
        console.print(led(f"{name} {found.stage}: ", "bold", f"{found.said} (since {found.made_at[:16]} UTC)"))
    if not status.items:
        return
    rows = [
        (item.held.partition, item.held.document_id, item.held.stage, item.held.answer or "",
         "" if item.held.confidence is None else f"{item.held.confidence:.3f}", f"{item.held.value:.3g}",
         "; ".join(item.held.why), item.state) for item in status.items[:MOST_SHOWN]
    ]  # fmt: skip
    columns = ("partition", "document", "stage", "answer", "confidence", "value", "why", "state")
    table(f"Held documents of {name}", columns, rows, ("confidence", "value"))
    if len(status.items) > MOST_SHOWN:
        console.print(f"... and {len(status.items) - MOST_SHOWN} more (--json has all).")
    if status.agreement.alpha is not None:
        console.print(f"Reviewers agree with alpha {status.agreement.alpha:.2f} on {status.agreement.documents}.")
    first = status.items[0].held
    console.print(f"Look:    ai-assets held show {name} {first.document_id}")
    console.print(f"Decide:  ai-assets held decide {name} {first.document_id} --accept | --label L | --reject WHY")


@app.command("show")
def show(
    name: CollectionName,
    document: Annotated[str, typer.Argument(help="As the list names it.")],
    stage: OfStage = None,
    as_json: AsJson = False,
) -> None:
    """Why a document is held, and what was said of it."""
    chosen, places = collection(name), stores_to_read()
    with places.state.read() as connection:
        status = held_status(connection, chosen, stage=stage)
    items = [item for item in status.items if item.held.document_id == document]
    if not items:
        raise HeldDecisionRefused(document, f"it is not held in {name}; see: ai-assets held list {name}")
    if as_json:
        print_json([item.plain for item in items])
        return
    for item in items:
        _show_one(item)


def _show_one(item: HeldItem) -> None:
    held = item.held
    sure = "" if held.confidence is None else f", confidence {held.confidence:.3f}"
    console.print(led(f"{held.document_id}", "bold", f" ({held.partition}), {held.stage}: {held.answer}{sure}"))
    for why in held.why:
        console.print(f"  held: {why}")
    console.print(f"  since {held.held_at[:16]} UTC; {item.state}")
    for each in item.ruling.given:
        label = f" ({each.label})" if each.label else ""
        reason = f": {each.reason}" if each.reason else ""
        console.print(f"  {each.author} on {each.made_at[:16]} UTC: {each.decision}{label}{reason}")


@app.command("decide")
def decide(
    name: CollectionName,
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="As the list names them.")],
    accept: Annotated[bool, typer.Option("--accept", help="It is right as it is.")] = False,
    label: Annotated[str | None, typer.Option("--label", help="What is right instead.")] = None,
    reject: Annotated[
        str | None, typer.Option("--reject", metavar="WHY", help="Leave it out, for this reason.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Recorded with the decision.")] = "",
    stage: OfStage = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Accept held documents, correct their label or leave them out. The next run lets them in."""
    verdict = _verdict(accept, label, reject)
    chosen, person, places = collection(name), signer(by), stores()
    found = []
    for held in _wanted(chosen, documents, stage):
        said = reject if reject is not None else reason
        ruling = holds.decide(places.state, chosen, held, verdict, label=label, reason=said, by=person)
        found.append((held, ruling))
    if as_json:
        print_json([{"document": held.document_id, "stage": held.stage, "decided": ruling.decided is not None,
                     "disagreed": ruling.disagreed} for held, ruling in found])  # fmt: skip
        return
    for held, ruling in found:
        further = "" if ruling.decided else ", and the two differ: a third decides" if ruling.disagreed else (
            "; a second person is needed"
        )  # fmt: skip
        console.print(f"{held.document_id}, {held.stage}: {verdict} by {person.name}{further}")
    if any(ruling.decided for _, ruling in found):
        console.print(f"They join with the next run:  ai-assets run {name}")


def _verdict(accept: bool, label: str | None, reject: str | None) -> Verdict:
    asked: list[tuple[Verdict, bool]] = [
        ("accept", accept), ("correct", label is not None), ("reject", reject is not None),
    ]  # fmt: skip
    given = [verdict for verdict, is_asked in asked if is_asked]
    if len(given) != 1:
        raise typer.BadParameter("say one of --accept, --label LABEL and --reject WHY")
    return given[0]


def _wanted(chosen: Collection, documents: list[str], stage: str | None) -> list[HeldDocument]:
    """All of them, or none is decided."""
    with stores_to_read().state.read() as connection:
        waiting = [held for held in holds.queue(connection, chosen.name, stage=stage) if held.document_id in documents]
    for document in documents:
        found = [held.stage for held in waiting if held.document_id == document]
        if not found:
            raise HeldDecisionRefused(
                document, f"it is not held in {chosen.name}; see: ai-assets held list {chosen.name}"
            )
        if len(found) > 1:
            raise HeldDecisionRefused(document, f"several stages hold it ({', '.join(found)}); name one with --stage")
    return waiting


@app.command("thresholds")
def thresholds(name: CollectionName, stage: OfStage = None, as_json: AsJson = False) -> None:
    """Certified thresholds as refreshes found them: when, by how many labels, and what they promise."""
    chosen = collection(name)
    with stores_to_read().state.read() as connection:
        found = hold_certificates.every(connection, chosen.name, stage)
    if as_json:
        print_json([vars(each) for each in found])
        return
    rows = [
        (each.stage, each.made_at[:16], each.labels, each.labels_digest[:12], each.said) for each in found[::-1]
    ]  # fmt: skip
    table(f"Thresholds of {name}", ("stage", "when (UTC)", "labels", "digest", "says"), rows, ("labels",))
