"""`ai-assets search` and `ai-assets explain`: questions to the live release."""

import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ai_assets.cli.output import AsJson, CollectionName, collection, console, led, print_json, stores_to_read, table
from ai_assets.documents.places import TextPlace
from ai_assets.run.explain import explain as explain_document
from ai_assets.run.explain import search as search_live
from ai_assets.run.explain import without_vectors


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
    document: Annotated[str, typer.Argument(help="Its identity, as search and status show it.")],
    as_json: AsJson = False,
) -> None:
    """Where a document comes from, what was made of it, in which release it is live, and who signed."""
    found = explain_document(collection(name), stores_to_read(), document)
    if as_json:
        print_json(found)
        return
    rows: list[tuple[str, object]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", _shown(inner, item)) for inner, item in value.items() if item is not None]
        elif key == "held":
            rows += [(f"held by {item['stage']}", f"{'; '.join(item['why'])}: {item['state']}") for item in value]
        elif key == "hold_decisions":
            rows += [(f"{item['decision']} by {item['author']}", item["reason"] or item["label"]) for item in value]
        elif key != "history":
            rows.append((key, value))
    table(f"{name}: {document}", ("what", "value"), rows)
    events = [
        (e["happened_at"], e["event"], (e["digest"] or "")[:12], e["reason"] or "", e["run_id"][:8])
        for e in found["history"]
    ]
    table("History", ("when (UTC)", "what", "digest", "reason", "run"), events)


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
