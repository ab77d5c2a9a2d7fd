"""The part of the API that opens things: an answer of a model, a release with its documents and its differences."""

from typing import Annotated

from fastapi import APIRouter, Path

from ai_assets.desk.answer_query import answer_view
from ai_assets.desk.api_document import SAFE
from ai_assets.desk.api_parameters import Someone, TheDesk
from ai_assets.desk.api_records import CallKey
from ai_assets.desk.views_of_answers import AnswerView

TheCall = Annotated[CallKey, Path(description="The key of a call, as provenance has it.")]
router = APIRouter()


@router.get("/answers/{call}", tags=["answers"], responses=SAFE)
def answer(desk: TheDesk, person: Someone, call: TheCall) -> AnswerView:
    """One answer of a model: what was sent, what came back, what it cost, and the rows and releases that use it."""
    return answer_view(desk, person, call)
