"""`ai-assets signoff`: what waits for people, and their decisions."""

from typing import Annotated, Any, Literal

import typer

from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    all_collections,
    collection,
    console,
    person,
    print_json,
    stores,
    table,
)
from ai_assets.errors import RequestUnknown
from ai_assets.signoff import requests
from ai_assets.signoff.requests import Request

app = typer.Typer(help="What waits for sign-off, and decisions on it.", no_args_is_help=True)
Partitions = Annotated[list[str] | None, typer.Argument(metavar="[PARTITION]...", help="Which partitions.")]
Every = Annotated[bool, typer.Option("--all", help="All that wait.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Recorded with the decision; a rejection needs one.")]


@app.command("list")
def list_requests(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """What waits, and what is approved but not yet published."""
    chosen = [collection(name)] if name else all_collections()
    with stores().state.read() as connection:
        found = [
            request
            for item in chosen
            for request in requests.find(connection, item.name, statuses=("open", "approved"))
        ]
    if as_json:
        print_json([_plain(request) for request in found])
        return
    if not found:
        console.print("Nothing waits for sign-off.")
        return
    rows = []
    for request in found:
        changes = request.changes
        rows.append(
            (
                request.collection, request.partition, request.status, request.digest[:12], len(changes["added"]),
                len(changes["changed"]), len(changes["removed"]), changes["quarantined"], request.opened_at[:16],
            )
        )  # fmt: skip
    columns = (
        "collection", "partition", "status", "digest", "added", "changed", "removed", "quarantined", "since (UTC)",
    )  # fmt: skip
    table("Sign-off", columns, rows, ("added", "changed", "removed", "quarantined"))
    if any(request.status == "open" for request in found):
        first = next(request for request in found if request.status == "open")
        console.print(f"Look:    ai-assets signoff show {first.collection} {first.partition}")
        console.print(f"Decide:  ai-assets signoff approve {first.collection} {first.partition}   (or --all)")


@app.command("show")
def show(name: CollectionName, partition: str, as_json: AsJson = False) -> None:
    """What would go live with this partition, against what is live now."""
    chosen = collection(name)
    places = stores()
    chosen.scheme.select(partition, partition, [partition] if chosen.settings.partitions.by == "folder" else [])
    with places.state.read() as connection:
        request = requests.latest_of(connection, name, partition)
    if request is None:
        raise RequestUnknown(name, partition, None)
    manifest = places.lake.manifest(name, "release_candidate", partition)
    labels: list[dict[str, Any]] = places.lake.read(manifest).to_pylist() if manifest else []
    if as_json:
        print_json({**_plain(request), "documents": labels})
        return
    changes = request.changes
    live = f"against live release {changes['live_release']}" if changes["live_release"] else "nothing is live yet"
    console.print(f"[bold]{name} {partition}[/]: {request.status}, digest {request.digest}")
    counts = ", ".join(f"{len(changes[name])} {name}" for name in ("added", "changed", "removed"))
    console.print(
        f"{changes['documents']} documents, {changes['quarantined']} quarantined; "
        f"{live}: {counts}, {changes['unchanged']} unchanged"
    )
    scores = [s for s in changes["scores"] if s["value"] is not None]
    if scores:
        table("Evaluation", ("metric", "scope", "value", "n"),
              [(s["metric"], s["scope"], f"{s['value']:.3f}", s["n"]) for s in scores], ("value", "n"))  # fmt: skip
    marks = {**dict.fromkeys(changes["added"], "added"), **dict.fromkeys(changes["changed"], "changed")}
    columns = [key for key in (labels[0] if labels else {}) if key != "leaf"]
    table(
        "Documents", ("change", *columns), [(marks.get(r["document_id"], ""), *(r[c] for c in columns)) for r in labels]
    )
    for document, moves in changes["relabelled"].items():
        for move in moves:
            console.print(f"relabelled: {document}: {move['from']} -> {move['to']} ({move['stage']})")
    for document in changes["removed"]:
        console.print(f"removed: {document}")


@app.command("approve")
def approve(
    name: CollectionName, partitions: Partitions = None, every: Every = False, by: By = None, reason: Reason = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Sign exactly the digest that waits. Any later change voids the signature."""
    _decide(name, partitions, every, "approve", by, reason, as_json)


@app.command("reject")
def reject(
    name: CollectionName, partitions: Partitions = None, every: Every = False, by: By = None, reason: Reason = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Refuse the candidate, with a reason; the next change opens a new request."""
    _decide(name, partitions, every, "reject", by, reason, as_json)


def _decide(
    name: str,
    partitions: list[str] | None,
    every: bool,
    verdict: Literal["approve", "reject"],
    by: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    chosen = collection(name)
    if bool(partitions) == every:
        raise typer.BadParameter("name the partitions, or give --all")
    decided = requests.decide(
        stores().state, name, None if every else partitions, verdict, by=person(by), reason=reason,
        rules=chosen.settings.signoff,
    )  # fmt: skip
    if as_json:
        print_json([_plain(request) for request in decided])
        return
    for request in decided:
        further = " (further approvals are needed)" if request.status == "open" else ""
        console.print(f"{request.partition}: {request.status} by {person(by)}, digest {request.digest[:12]}{further}")
    if any(request.status == "approved" for request in decided):
        console.print(f"Published within a minute while `ai-assets up` runs; or now: ai-assets publish {name}")


def _plain(request: Request) -> dict[str, Any]:
    return {**{k: v for k, v in vars(request).items() if k != "summary"}, "changes": request.changes}
