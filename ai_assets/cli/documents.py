"""`ai-assets search` and `ai-assets explain`: questions to the live release."""

import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    console,
    errors,
    led,
    money,
    print_json,
    stores_to_read,
    table,
)
from ai_assets.documents.places import TextPlace
from ai_assets.run.explain import explain as explain_document
from ai_assets.run.explain import search as search_live
from ai_assets.run.explain import without_vectors
from ai_assets.run.provenance import Provenance, provenance_of, statement_of
from ai_assets.run.provenance_records import ProvenanceStep, StepLink
from ai_assets.signoff import attestation
from ai_assets.storage.stores import Stores


def search(
    name: CollectionName,
    text: Annotated[str, typer.Argument(help="A name, a number, or a question in your own words.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many documents.")] = 5,
    embedding: Annotated[
        str, typer.Option(help="Which embedding to search by, where there are several; without it the first.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Search the live release: full text and vectors together."""
    chosen, places = collection(name), stores_to_read()
    release, hits = search_live(chosen, places, text, k, embedding)
    without = without_vectors(places, release, hits)
    if as_json:
        print_json({"release": release.number, "hits": [vars(hit) for hit in hits], "without_vectors": without})
        return
    if not hits:
        console.print(f"Release {release.number} of {name} has nothing for that.")
    for number, hit in enumerate(hits, start=1):
        console.print(led(f"{number}. {hit.document_id}", "bold", f"  ({hit.partition}, score {hit.score:.4f})"))
        if place := _place(hit.page, hit.headings):
            console.print(f"   {place}", markup=False)
        console.print(textwrap.shorten(hit.text, 240, placeholder=" …"), style="dim")
        if hit.document_id in without:
            console.print(f"without vectors: found by its words alone ({without[hit.document_id]})")


def explain(
    name: CollectionName,
    document: Annotated[
        str, typer.Argument(help="Its identity, as search and status show it, or that of a passage (chunk_id).")
    ],
    number: Annotated[
        int | None, typer.Option("--release", help="As it is in this release; by default in the live one.")
    ] = None,
    in_toto: Annotated[
        bool, typer.Option("--in-toto", help="A signed in-toto statement with the proof of the audit chain.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="With --in-toto: the file; what verifies it goes beside it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Where a document comes from, step by step to the release and who signed, and what was made of it.

    Each step names the command that shows more of it. --in-toto is for auditors: docs/provenance.md.
    """
    chosen, places = collection(name, signed=True), stores_to_read()
    found = provenance_of(chosen, places, document, number=number)
    if in_toto:
        _attest(places, found, out)
        return
    about = explain_document(chosen, places, found.document) if chosen.signed_asset is None else {"history": []}
    if as_json:
        print_json({**about, "provenance": found.plain})
        return
    _show_provenance(found)
    rows: list[tuple[str, object]] = []
    for key, value in about.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", _shown(inner, item)) for inner, item in value.items() if item is not None]
        elif key == "held":
            rows += [(f"held by {item['stage']}", f"{'; '.join(item['why'])}: {item['state']}") for item in value]
        elif key == "hold_decisions":
            rows += [(f"{item['decision']} by {item['author']}", item["reason"] or item["label"]) for item in value]
        elif key != "history":
            rows.append((key, value))
    table("Now", ("what", "value"), rows)
    events = [
        (e["happened_at"], e["event"], (e["digest"] or "")[:12], e["reason"] or "", e["run_id"][:8])
        for e in about["history"]
    ]
    table("History", ("when (UTC)", "what", "digest", "reason", "run"), events)


def _attest(places: Stores, found: Provenance, out: Path | None) -> None:
    envelope = statement_of(places, found)
    if out is None:
        print(attestation.as_text(envelope), end="")
        errors.print(f"Verify it: python3 {attestation.VERIFIER} FILE --key KEY")
        return
    beside = attestation.write(envelope, out)
    console.print(f"Written to {out}. Whoever gets it verifies it with nothing but Python:")
    console.print(f"  python3 {beside} {out} --key KEY ...", soft_wrap=True)
    console.print("KEY are those of the installation, from somewhere else: ai-assets audit checkpoint prints them.")


def _show_provenance(found: Provenance) -> None:
    where = f"live in release {found.release}" if found.standing == "live" else (
        found.standing if found.release is None else f"as it is in release {found.release}"
    )  # fmt: skip
    paid = f"; its calls cost {money(found.cost_usd)}" if found.cost_usd or found.maybe_usd else ""
    maybe = f", and at most {money(found.maybe_usd)} more" if found.maybe_usd else ""
    console.print(led(f"{found.collection}: {found.document}", "bold", f"  ({where}{paid}{maybe})"))
    if found.forgotten:
        console.print(f"{found.forgotten}. What is left:")
    rows = [
        (place, " ".join(filter(None, (step.step, step.of))), _said(step), _command(step.link, found))
        for place, step in enumerate(found.steps, start=1)
    ]
    table("", ("", "step", "what is known", "more"), rows)


def _said(step: ProvenanceStep) -> str:
    known = [f"{name}: {_brief(name, value)}" for name, value in step.facts.items()]
    if step.messages:
        known.append(f"{plural(len(step.messages), 'message was', 'messages were')} sent")
    return "; ".join([*known, *([step.missing] if step.missing else [])])


def _brief(name: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{each['attempt']} {each['state']} {_dollars(each)}" for each in value)
    if isinstance(value, float):
        return money(value) if name.endswith("_usd") else f"{value:.4g}"
    text = str(value)
    is_digest = len(text) >= 40 and all(sign in "0123456789abcdef" for sign in text)
    return text[:12] if is_digest else textwrap.shorten(text, 160, placeholder=" …")


def _dollars(attempt: Mapping[str, Any]) -> str:
    return money(attempt["cost_usd"]) if "cost_usd" in attempt else f"at most {money(attempt['reserved_usd'])}"


def _command(link: StepLink | None, found: Provenance) -> str:
    if link is None:
        return ""
    names, of = link.names, shlex.quote(found.collection)
    match link.kind:
        case "answer":
            return f"ai-assets answer {names['call'][:12]}"
        case "request" | "document":
            return f"ai-assets signoff show {of} {shlex.quote(found.partition)}"
        case "released":
            return f"ai-assets releases documents {of} {names['release']}"
        case "release":
            return f"ai-assets releases show {of} {names['release']}"
        case "held":
            return f"ai-assets held list {of}"
        case "run":
            return f"ai-assets ledger list --run {names['run'][:8]}"
        case "quality":
            return f"ai-assets status {of}"


def _place(page: int | None, headings: str | None) -> str:
    """Where a passage stands, for people."""
    return ", ".join([*([f"page {page}"] if page else []), *([headings] if headings else [])])


def _shown(name: str, item: object) -> object:
    """Evidence with where it stands; a list of passages as their number: `--json` has each of them."""
    if not isinstance(item, list):
        return item
    if name.endswith(".evidence_at"):
        return "; ".join(_stands(found) for found in item)
    return f"{len(item)} (each with its place: --json)"


def _stands(found: Mapping[str, Any]) -> str:
    place = TextPlace(**{name: value for name, value in found.items() if name != "text"})
    passage = f"passage {place.passage}" if place.passage is not None else f"character {place.start + 1:,}"
    return (
        f"{textwrap.shorten(found['text'], 60, placeholder=' …')!r}: {', '.join(filter(None, (place.said, passage)))}"
    )
