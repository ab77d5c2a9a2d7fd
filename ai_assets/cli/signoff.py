"""`ai-assets signoff`: what waits for people, and their decisions."""

from collections.abc import Mapping
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    all_collections,
    collection,
    console,
    led,
    money,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer, signer_with
from ai_assets.embedding.spec import WITHOUT
from ai_assets.evaluation.drift import Comparison
from ai_assets.signoff import decisions, requests, statements
from ai_assets.signoff.decisions import Verdict
from ai_assets.signoff.errors import RequestUnknown
from ai_assets.signoff.policy_facts import denials, require_decision
from ai_assets.signoff.requests import SignoffRequest

app = typer.Typer(help="What waits for sign-off, and decisions on it.", no_args_is_help=True)
Partitions = Annotated[list[str] | None, typer.Argument(metavar="[PARTITION]...", help="Which partitions.")]
Every = Annotated[bool, typer.Option("--all", help="All that wait.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Recorded with the decision; a rejection needs one.")]
Waive = Annotated[
    list[str] | None, typer.Option("--waive", metavar="GATE=WHY", help="Pass over a failed gate that may be waived.")
]

Key = Annotated[
    Path | None, typer.Option("--key", help="Sign it with this SSH or minisign key of your own; no password then.")
]


@app.command("list")
def list_requests(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """What waits, and what is approved but not yet published."""
    chosen = [collection(name, signed=True)] if name else all_collections(signed=True)
    with stores_to_read().state.read() as connection:
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
    chosen = collection(name, signed=True)
    places = stores_to_read()
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
    console.print(led(f"{name} {partition}", "bold", f": {request.status}, digest {request.digest}"))
    held = len({each[0] for each in changes.get("held", ()) if str(each[3]).endswith(" it")})
    holes = f", {changes[WITHOUT]} without vectors" if changes.get(WITHOUT) else ""
    waits = f", {held} held for a person" if held else ""
    counts = ", ".join(f"{len(changes[name])} {name}" for name in ("added", "changed", "removed"))
    console.print(
        f"{plural(changes['documents'], 'document')}, {changes['quarantined']} quarantined{holes}{waits}; "
        f"{live}: {counts}, {changes['unchanged']} unchanged; made for {money(changes['cost_usd'])}"
    )
    _show_authors(request)
    with places.state.read() as connection:
        standing = decisions.standings(connection, [request])[request.request_id]
    if standing.signers:
        console.print(f"approved by {', '.join(standing.signers)}")
    for reason in denials(chosen, places, [request]).get(request.request_id, ()):
        console.print(led("policy forbids to publish it:", "bold red", f" {reason}"))
    if request.status == "open":
        console.print(f"it still takes: {', '.join(standing.missing(chosen.settings.signoff))}")
    scores = [s for s in changes["scores"] if s["value"] is not None]
    judged = ("metric", "scope", "stage", "judge")
    before = {tuple(s.get(name) for name in judged): s["value"] for s in changes.get("live_scores") or []}
    if scores:
        rows = [
            (s["metric"], s["scope"], s.get("stage") or "", f"{s['value']:.3f}",
             _number(before.get(tuple(s.get(name) for name in judged))), s["n"])
            for s in scores
        ]  # fmt: skip
        table("Evaluation", ("metric", "scope", "of", "value", "live", "n"), rows, ("value", "live", "n"))
    if drift := changes.get("drift"):
        console.print(drift["said"])
        for found in map(Comparison.of, drift["comparisons"]):
            console.print(
                led(
                    "DRIFTED" if found.drifted else "alike",
                    "bold red" if found.drifted else "green",
                    f" {found.in_words}",
                )
            )
    for verdict in request.verdicts:
        waived = standing.waived.get(verdict.name) if verdict.holds else None
        console.print(f"gate: {verdict.sentence}: {f'waived: {waived}' if waived else _MARKS[verdict.verdict]}")
    for stage, said in (changes.get("hold_thresholds") or {}).items():
        console.print(f"certified threshold of {stage}: {said}")
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


_MARKS = {"passed": "passed", "failed": "FAILED", "undecided": "undecided"}


def _show_authors(request: SignoffRequest) -> None:
    launch = requests.launch_of(request)
    if launch.known:
        console.print(f"started by {launch.in_words}")
    else:
        console.print(led("AUTHOR UNKNOWN", "bold yellow", f": {launch.why}"))
    for author in request.changes.get("authors", []):
        console.print(f"{author['who']} {author['did']}")


@app.command("approve")
def approve(
    name: CollectionName, partitions: Partitions = None, every: Every = False, by: By = None, reason: Reason = None,
    waive: Waive = None, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Sign exactly the digest that waits. Any later change voids the signature."""
    _decide(name, partitions, every, "approve", by, reason, as_json, key, _waivers(waive or []))


@app.command("reject")
def reject(
    name: CollectionName, partitions: Partitions = None, every: Every = False, by: By = None, reason: Reason = None,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Refuse the candidate, with a reason; the next change opens a new request."""
    _decide(name, partitions, every, "reject", by, reason, as_json, key)


@app.command("send-back")
def send_back(
    name: CollectionName, partitions: Partitions = None, every: Every = False, by: By = None, reason: Reason = None,
    key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Ask for changes, with notes on what to do; the next change opens a new request."""
    _decide(name, partitions, every, "send back", by, reason, as_json, key)


@app.command("ask-again")
def ask_again(
    name: CollectionName, partition: str, by: By = None, reason: Reason = None, as_json: AsJson = False
) -> None:
    """A new request for a candidate whose last one was rejected, sent back or expired."""
    collection(name, signed=True)
    places = stores()
    asked = decisions.ask_again(places.state, name, partition, by=signer(by), reason=reason or "")
    if as_json:
        print_json(_plain(asked))
    else:
        console.print(f"{partition} waits again, digest {asked.digest[:12]}")


def _waivers(given: list[str]) -> dict[str, str]:
    found = {}
    for item in given:
        gate, divider, why = item.partition("=")
        if not divider or not why.strip():
            raise typer.BadParameter(f"'{item}' is not GATE=WHY")
        found[gate.strip()] = why.strip()
    return found


def _decide(
    name: str,
    partitions: list[str] | None,
    every: bool,
    verdict: Verdict,
    by: str | None,
    reason: str | None,
    as_json: bool,
    key: Path | None,
    waivers: Mapping[str, str] | None = None,
) -> None:
    chosen = collection(name, signed=True)
    if bool(partitions) == every:
        raise typer.BadParameter("name the partitions, or give --all")
    decisions.require_reason(by or getuser(), verdict, reason)
    rules, places = chosen.settings.signoff, stores()
    with places.state.read() as connection:
        choices = decisions.waiting(connection, name, None if every else partitions, rules)
    if key is None:
        who, signed = signer(by), None
    else:
        who, signed = signer_with(
            by, key, lambda connection, person: statements.values(
                connection, name, choices, verdict, by=person, reason=reason, waivers=waivers
            ),
        )  # fmt: skip
    with places.state.read() as connection:
        require_decision(connection, chosen, who, verdict, [choice.request_id for choice in choices])
    decided = decisions.decide(
        places.state, name, choices, verdict, by=who, reason=reason, rules=rules, waivers=waivers, signed=signed
    )
    if as_json:
        print_json([_plain(request) for request in decided])
        return
    for request in decided:
        further = " (further approvals are needed)" if request.status == "open" else ""
        said = "approved" if request.status == "open" else request.status
        console.print(f"{request.partition}: {said} by {who.name}, digest {request.digest[:12]}{further}")
    if any(request.status == "approved" for request in decided):
        console.print(f"Published within a minute while `ai-assets up` runs; or now: ai-assets publish {name}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _plain(request: SignoffRequest) -> dict[str, Any]:
    hidden = ("summary", "facts")
    return {**{k: v for k, v in vars(request).items() if k not in hidden}, "changes": request.changes}
