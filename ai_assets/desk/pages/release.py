"""The pages of one release: its documents, one of them, and its difference to another release."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.base.errors import AiAssetsError, DatasetDamaged
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import page_number, parameter, person_of, place_in_text
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.release_opened import (
    CHANGES,
    OpenedRelease,
    difference_view,
    number_of,
    opened_release,
    release_card,
    released_document,
    released_documents,
)
from ai_assets.desk.views_of_releases import DifferenceView, ReleasedDocuments
from ai_assets.run.released import ReleasedFilter
from ai_assets.signoff.card_markdown import card_markdown, head, sections
from ai_assets.signoff.errors import IndexAltered, IndexLost, ReleaseFilesRemoved
from ai_assets.signoff.release_cards import KeptCard
from ai_assets.storage.index import IndexUnavailable

FILTERS = ("search", "text", "partition", "stage", "label", "status")
STATUSES = ("ok", "duplicate", "quarantined", "forgotten")
FIRST_MOVES = 8
"""Of a difference, on the page that asks whether to make a release live."""

PARTS_PER_PAGE = 50
MOST_CHOICES = 100
"""Partitions to choose from in a list; of more, one is named."""


@dataclass(frozen=True)
class PartsPage:
    """Partitions of a release, of which a page shows some."""

    rows: Sequence[str]
    page: int
    pages: int

    @classmethod
    def of(cls, partitions: Sequence[str], asked: int) -> "PartsPage":
        pages = max(1, math.ceil(len(partitions) / PARTS_PER_PAGE))
        page = min(max(1, asked), pages)
        return cls(partitions[(page - 1) * PARTS_PER_PAGE : page * PARTS_PER_PAGE], page, pages)


def _asked(http: HttpRequest) -> tuple[str, int]:
    return http.path_params["collection"], number_of(http.path_params["number"])


def page(http: HttpRequest) -> Response:
    desk, person, (collection, number) = Desk.of(http), person_of(http), _asked(http)
    view = opened_release(desk, person, collection, number)
    chosen = {name: parameter(http.query_params, name) for name in FILTERS}
    if not chosen["stage"] and chosen["label"]:
        chosen["label"] = ""
    found, problem = _documents(http, view, chosen)
    context = {
        "collection": collection,
        "view": view,
        "parts": PartsPage.of(view.partitions, page_number(http.query_params, "parts")),
        "MOST_CHOICES": MOST_CHOICES,
        "found": found,
        "chosen": chosen,
        "statuses": STATUSES,
        "problem": problem,
        "base": _base_of(view),
        "may_roll_back": person.may("approver", collection),
    }
    return render(http, "release.html", context)


def _documents(
    http: HttpRequest, view: OpenedRelease, chosen: dict[str, str]
) -> tuple[ReleasedDocuments | None, str | None]:  # fmt: skip
    """Those of the page that was asked for; and why they, or a search for them, cannot be shown."""
    only = ReleasedFilter(**{name: chosen[name] for name in FILTERS if name != "search"})

    def read(search: str) -> ReleasedDocuments:
        return released_documents(view, only=only, search=search, page=page_number(http.query_params))

    try:
        return read(chosen["search"]), None
    except ReleaseFilesRemoved as error:
        return None, str(error)
    except (IndexLost, IndexAltered, IndexUnavailable) as error:
        return read(""), _without_index(view, error)
    except DatasetDamaged as error:
        return None, f"Its documents cannot be shown: {error}"


def _without_index(view: OpenedRelease, error: AiAssetsError) -> str:
    if view.row.live or not isinstance(error, IndexLost):
        return str(error)
    return (
        f"The search index of release {view.row.number} is not kept any more: retention keeps those of releases that "
        "can be rolled back to. Its documents can still be found by their names and labels."
    )  # fmt: skip


def _base_of(view: OpenedRelease) -> int | None:
    """What it is compared with where nobody says: the one before it."""
    before = [number for number in view.numbers if number < view.row.number]
    return max(before or [number for number in view.numbers if number != view.row.number], default=None)


def card(http: HttpRequest) -> Response:
    collection, number = _asked(http)
    kept = release_card(Desk.of(http), person_of(http), collection, number)
    context = {"collection": collection, "number": number, "kept": kept, "head": head(kept),
               "sections": sections(kept)}  # fmt: skip
    return render(http, "release_card.html", context)


def card_as_markdown(http: HttpRequest) -> Response:
    return _download(http, "md", "text/markdown; charset=utf-8", card_markdown)


def card_as_json(http: HttpRequest) -> Response:
    return _download(http, "json", "application/json", lambda kept: kept.text)


def _download(http: HttpRequest, ending: str, media_type: str, written: Callable[[KeptCard], str]) -> Response:
    collection, number = _asked(http)
    kept = release_card(Desk.of(http), person_of(http), collection, number)
    headers = {"Content-Disposition": f'attachment; filename="card-{number}.{ending}"'}
    return Response(written(kept), media_type=media_type, headers=headers)


def document(http: HttpRequest) -> Response:
    desk, person, (collection, number) = Desk.of(http), person_of(http), _asked(http)
    document_id, partition = http.query_params.get("id", ""), parameter(http.query_params, "partition")
    at = place_in_text(http.query_params)
    opened = opened_release(desk, person, collection, number)
    view = released_document(opened, document_id, partition, at=at)
    return render(http, "release_document.html", {"collection": collection, "number": number, "view": view})


def difference(http: HttpRequest) -> Response:
    desk, person, (collection, number) = Desk.of(http), person_of(http), _asked(http)
    view = opened_release(desk, person, collection, number)
    asked = parameter(http.query_params, "with")
    base = number_of(asked) if asked else _base_of(view)
    change = parameter(http.query_params, "change") or "all"
    found, problem = None, None
    if base is not None:
        try:
            found = difference_view(view, base, change=change, page=page_number(http.query_params))
        except (ReleaseFilesRemoved, DatasetDamaged) as error:
            problem = str(error)
    context = {
        "collection": collection,
        "view": view,
        "with_": base,
        "found": found,
        "change": change,
        "changes": CHANGES,
        "address": f"/releases/{collection}/{number}/difference?{query(**{'with': base, 'change': change})}&",
        "problem": problem,
    }
    return render(http, "release_difference.html", context)


def would_change(http: HttpRequest, collection: str, live: int, target: int) -> tuple[DifferenceView | None, str]:
    """What readers would see otherwise; and why that cannot be said."""
    try:
        opened = opened_release(Desk.of(http), person_of(http), collection, target)
        return difference_view(opened, live, per_page=FIRST_MOVES), ""
    except (ReleaseFilesRemoved, DatasetDamaged) as error:
        return None, str(error)
