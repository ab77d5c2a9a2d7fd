"""What the operations of the API are given: the desk, who asks, and the parts of an address."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from starlette.exceptions import HTTPException

from ai_assets.desk.api_records import CollectionName, MomentText, RequestId, RunId, Text
from ai_assets.desk.context import Desk
from ai_assets.signoff.people import Person

MOST_PAGES = 1_000_000


async def _desk(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found


async def _person(request: Request) -> Person:
    found = getattr(request.state, "person", None)
    if not isinstance(found, Person):
        raise HTTPException(401, "Sign in first.", headers={"WWW-Authenticate": "Cookie"})
    return found


TheDesk = Annotated[Desk, Depends(_desk)]
Someone = Annotated[Person, Depends(_person)]
TheRequest = Annotated[RequestId, Path(description="The id of a request for sign-off.")]
TheCollection = Annotated[CollectionName, Path(description="The name of a collection.")]
TheRun = Annotated[RunId, Path(description="The id of a run, as Dagster knows it.")]
OfCollection = Annotated[CollectionName | None, Query(description="Only of this collection.")]
Page = Annotated[int, Query(ge=1, le=MOST_PAGES, description="Beyond the last page, the last one is answered.")]
PerPage = Annotated[int, Query(ge=1, le=200)]
PlaceInText = Annotated[
    int,
    Query(ge=0, le=999_999_999, description="A place in the text; of a long one that part is answered."),
]
Containing = Annotated[Text, Query(max_length=200, description="Only what has these characters in its name.")]
Moment = Annotated[
    MomentText,
    Query(description="A date, or date and time (UTC unless a zone is given), as ISO 8601 has them."),
]
