"""Shadows as the desk shows them: of the collections that a person may see, and one with documents side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

import sqlalchemy as sa

from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.inference import history
from ai_assets.inference.answer_text import answer_text
from ai_assets.shadow import records
from ai_assets.shadow.spec import ComparedDocument, Shadow, VariantResult, VariantSpec
from ai_assets.signoff import requests
from ai_assets.signoff.people import Person

MOST_EXAMPLES = 20
"""Of each variant; the command has all with --json."""
MOST_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class ExampleView:
    """A document of which the two sides say different things."""

    document: ComparedDocument
    address: str | None
    """Of its page."""
    live: str | None
    new: str | None
    """The label, or how the answer begins; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class VariantView:
    spec: VariantSpec
    result: VariantResult
    examples: Sequence[ExampleView]
    changed: int
    """Of all documents that were asked about."""
    MOST_MOVES: ClassVar[int] = 30


@dataclass(frozen=True, kw_only=True)
class ShadowView:
    shadow: Shadow
    variants: Sequence[VariantView]


def shadows_seen(desk: Desk, person: Person) -> list[Shadow]:
    """The newest first."""
    with desk.stores.state.read() as connection:
        return records.find(connection, sorted(desk.seen_by(person)))


def shadow_view(desk: Desk, person: Person, name: str, number: str) -> ShadowView:
    """Raises NotSeen."""
    collection = collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        found = records.find(connection, [collection.name])
        shadow = next((each for each in found if str(each.number) == number), None)
        if shadow is None:
            raise NotSeen(f"shadow '{number}' of '{name}'")
        documents = records.documents_of(connection, shadow)
        return ShadowView(shadow=shadow, variants=[
            _variant(desk, connection, shadow, each, [one for one in documents if one.variant == each.name])
            for each in shadow.spec.variants if shadow.results is not None
        ])  # fmt: skip


def _variant(
    desk: Desk, connection: sa.Connection, shadow: Shadow, spec: VariantSpec, documents: Sequence[ComparedDocument]
) -> VariantView:  # fmt: skip
    assert shadow.results is not None
    result = shadow.results.of(spec.name)
    changed = [each for each in documents if each.is_changed]
    return VariantView(
        spec=spec,
        result=result,
        examples=[_example(desk, connection, shadow, each) for each in changed[:MOST_EXAMPLES]],
        changed=len(changed),
    )


def _example(desk: Desk, connection: sa.Connection, shadow: Shadow, document: ComparedDocument) -> ExampleView:
    live, new = document.live_said, document.new_said
    if shadow.spec.kind != "classify":
        live, new = (_begins(desk, connection, each) for each in (document.live_call, document.new_call))
    return ExampleView(document=document, address=_address(connection, shadow, document), live=live, new=new)


def _begins(desk: Desk, connection: sa.Connection, call: str | None) -> str | None:
    """How an answer of the ledger begins; None where it has none, or was erased."""
    found = None if call is None else history.call(connection, call)
    if found is None or not found.attempts or found.body is None:
        return None
    text = answer_text(found.body, found.attempts[-1].protocol, desk.stores.home.inference)
    return text if text is None or len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _address(connection: sa.Connection, shadow: Shadow, document: ComparedDocument) -> str | None:
    asked = urlencode({"id": document.document_id})
    if shadow.spec.release is not None:
        return f"/releases/{shadow.collection}/{shadow.spec.release}/document?{asked}"
    request = requests.latest_of(connection, shadow.collection, document.partition)
    return None if request is None else f"/requests/{request.request_id}/document?{asked}"
