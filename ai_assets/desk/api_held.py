"""The part of the API about held documents: the queue, and decisions."""

from typing import Annotated

from fastapi import APIRouter, Query

from ai_assets.desk.api_document import SAFE, UNSAFE
from ai_assets.desk.api_parameters import OfCollection, Page, PerPage, Someone, TheCollection, TheDesk
from ai_assets.desk.api_records import DecidedHeld, DecidingHeld, Name
from ai_assets.desk.held_query import held_named, held_page
from ai_assets.desk.held_views import HeldPage
from ai_assets.signoff import holds
from ai_assets.signoff.errors import HeldDecisionRefused

router = APIRouter()


@router.get("/held", tags=["held documents"], responses=SAFE)
def held(
    desk: TheDesk,
    person: Someone,
    collection: OfCollection = None,
    stage: Annotated[Name | None, Query(description="Only what this stage holds.")] = None,
    page: Page = 1,
    per_page: PerPage = 50,
) -> HeldPage:
    """Documents that wait for a person while the others go on, the most valuable first."""
    return held_page(desk, person, collection=collection, stage=stage, page=page, per_page=per_page)


@router.post("/held/{collection}", tags=["held documents"], responses=UNSAFE)
def decide_held(desk: TheDesk, person: Someone, collection: TheCollection, deciding: DecidingHeld) -> DecidedHeld:
    """Accept a held document as it is, correct its label, or leave it out. The next run lets it join."""
    found, item = held_named(desk, person, collection, deciding.document_id, deciding.stage)
    seen = (deciding.document_digest, deciding.answer_digest)
    if (item.held.document_digest, item.held.answer_digest) != seen:
        raise HeldDecisionRefused(
            deciding.document_id, "its text or its answer has changed since it was shown; look again"
        )
    ruling = holds.decide(
        desk.stores.state, found, item.held, deciding.decision, label=deciding.label, reason=deciding.reason, by=person
    )
    return DecidedHeld(decided=ruling.decided is not None, disagreed=ruling.disagreed)
