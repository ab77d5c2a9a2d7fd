"""The part of the API that opens things: an answer of a model, a release with its documents and its differences."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from ai_assets.desk.answer_query import answer_view
from ai_assets.desk.api_document import SAFE
from ai_assets.desk.api_parameters import Containing, Page, PerPage, PlaceInText, Someone, TheCollection, TheDesk
from ai_assets.desk.api_records import GREATEST_NUMBER, CallKey, DocumentId, Text
from ai_assets.desk.release_opened import (
    difference_view,
    opened_release,
    release_view,
    released_document,
    released_documents,
)
from ai_assets.desk.views_of_answers import AnswerView
from ai_assets.desk.views_of_releases import DifferenceView, ReleasedDocument, ReleasedDocuments, ReleaseView
from ai_assets.run.released import ReleasedFilter

TheCall = Annotated[CallKey, Path(description="The key of a call, as provenance has it.")]
TheNumber = Annotated[int, Path(ge=1, le=GREATEST_NUMBER, description="The number of a release.")]
InPartition = Annotated[Text, Query(max_length=200, description="Only of this partition.")]
OF_RELEASE = "/releases/{collection}/{number:int}"
router = APIRouter()


@router.get("/answers/{call}", tags=["answers"], responses=SAFE)
def answer(desk: TheDesk, person: Someone, call: TheCall) -> AnswerView:
    """One answer of a model: what was sent, what came back, what it cost, and the rows and releases that use it."""
    return answer_view(desk, person, call)


@router.get(OF_RELEASE, tags=["releases"], responses=SAFE)
def release(desk: TheDesk, person: Someone, collection: TheCollection, number: TheNumber) -> ReleaseView:
    """One release: what was signed by whom, partition by partition."""
    return release_view(opened_release(desk, person, collection, number))


@router.get(OF_RELEASE + "/documents", tags=["releases"], responses=SAFE, name="release_documents")
def documents(
    desk: TheDesk,
    person: Someone,
    collection: TheCollection,
    number: TheNumber,
    search: Annotated[
        Text, Query(max_length=500, description="Asks the index of the release; then nothing else is looked at.")
    ] = "",
    text: Containing = "",
    partition: InPartition = "",
    stage: Annotated[Text, Query(max_length=200, description="Counts what this stage says; `label` chooses.")] = "",
    label: Annotated[Text, Query(max_length=200, description="Only of which the stage says this.")] = "",
    status: Annotated[Text, Query(max_length=40, description="Such as `ok` or `quarantined`.")] = "",
    page: Page = 1,
    per_page: PerPage = 50,
) -> ReleasedDocuments:
    """The documents of a release, a page at a time. A search costs nothing and gives the best 20."""
    only = ReleasedFilter(text=text, partition=partition, stage=stage, label=label, status=status)
    opened = opened_release(desk, person, collection, number)
    return released_documents(opened, only=only, search=search, page=page, per_page=per_page)


@router.get(OF_RELEASE + "/document", tags=["releases"], responses=SAFE, name="release_document")
def document(
    desk: TheDesk,
    person: Someone,
    collection: TheCollection,
    number: TheNumber,
    id: Annotated[DocumentId, Query(description="Of the document.")],  # noqa: A002 - as the pages have it
    partition: InPartition = "",
    at: PlaceInText = 0,
) -> ReleasedDocument:
    """One document as it was released: its text with the evidence in it, labels and provenance."""
    return released_document(opened_release(desk, person, collection, number), id, partition, at=at)


@router.get(OF_RELEASE + "/difference", tags=["releases"], responses=SAFE, name="release_difference")
def difference(
    desk: TheDesk,
    person: Someone,
    collection: TheCollection,
    number: TheNumber,
    base: Annotated[int, Query(alias="with", ge=1, le=GREATEST_NUMBER, description="The release to go from.")],
    change: Annotated[
        Literal["all", "relabelled", "changed", "added", "removed"], Query(description="Only such changes.")
    ] = "all",
    page: Page = 1,
    per_page: PerPage = 50,
) -> DifferenceView:
    """What readers of another release would see otherwise if this one were live."""
    opened = opened_release(desk, person, collection, number)
    return difference_view(opened, base, change=change, page=page, per_page=per_page)
