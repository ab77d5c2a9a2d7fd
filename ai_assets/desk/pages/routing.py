"""Which address shows what. Others link to these, so they do not change."""

from collections.abc import Callable
from typing import Any

from starlette.routing import BaseRoute, Route

from ai_assets.desk.pages import (
    account,
    answers,
    audit,
    costs,
    decision,
    document,
    evaluation,
    explain,
    golden,
    held,
    inbox,
    passkey,
    people,
    quality,
    ratings,
    release,
    releases,
    request,
    runs,
    shadows,
    unanswered,
)
from ai_assets.desk.pages.refusals import net


def routes() -> list[BaseRoute]:
    return [
        _page("/", inbox.page),
        _form("/filters", inbox.keep_filter),
        _form("/decisions", decision.several),
        _form("/decisions/statement", passkey.statement),
        _page("/requests/{request_id}", request.page),
        _form("/requests/{request_id}/decision", decision.one),
        _form("/requests/{request_id}/ask-again", request.ask_again),
        _form("/requests/{request_id}/claim", request.claim),
        _page("/requests/{request_id}/document", document.page),
        _form("/requests/{request_id}/correction", document.correct),
        _form("/requests/{request_id}/notes", document.note),
        _form("/requests/{request_id}/retry", document.retry),
        _page("/unanswered", unanswered.page),
        _form("/unanswered", unanswered.ask_again),
        _page("/quality", quality.page),
        _page("/answers/{call}", answers.page),
        _page("/explain/{collection}", explain.page),
        _page("/explain/{collection}/provenance.json", explain.as_json),
        _page("/explain/{collection}/statement.json", explain.statement),
        _page("/touched/{collection}", explain.touched),
        _page("/golden", golden.overview),
        _form("/golden", golden.draw),
        _page("/golden/{collection}", golden.page),
        _form("/golden/{collection}", golden.label),
        _form("/golden/{collection}/item", golden.item),
        _page("/golden/{collection}/ratings/{judge}", ratings.page),
        _form("/golden/{collection}/ratings/{judge}", ratings.rate),
        _page("/held", held.overview),
        _page("/held/{collection}", held.page),
        _form("/held/{collection}", held.decide),
        _page("/evaluation", evaluation.overview),
        _page("/evaluation/{collection}", evaluation.page),
        _page("/evaluation/{collection}/documents", evaluation.documents),
        _page("/evaluation/{collection}/document", evaluation.document),
        _page("/shadows", shadows.overview),
        _page("/shadows/{collection}/{number}", shadows.page),
        _page("/audit", audit.page),
        _page("/audit.jsonl", audit.export),
        _page("/costs", costs.page),
        _page("/costs/{name}.csv", costs.download),
        _page("/releases", releases.overview),
        _page("/releases/{collection}", releases.page),
        _form("/releases/{collection}/rollback", releases.rollback),
        _page("/releases/{collection}/{number}", release.page),
        _page("/releases/{collection}/{number}/card", release.card),
        _page("/releases/{collection}/{number}/card.md", release.card_as_markdown),
        _page("/releases/{collection}/{number}/card.json", release.card_as_json),
        _page("/releases/{collection}/{number}/difference", release.difference),
        _page("/releases/{collection}/{number}/document", release.document),
        _page("/runs", runs.overview),
        _page("/runs/{collection}", runs.page),
        _form("/runs/{collection}", runs.start),
        _page("/runs/{collection}/{run_id}", runs.one),
        _page("/people", people.page),
        _page("/people/{name}", people.page_of_one),
        _form("/people/{act}", people.act),
        _page("/account", account.page),
        _form("/account/sessions", account.end_session),
        _form("/account/passkeys/begin", passkey.begin),
        _form("/account/passkeys/add", passkey.add),
        _form("/account/passkeys/vouch", passkey.vouch),
    ]


def _page(path: str, endpoint: Callable[..., Any]) -> Route:
    return Route(path, endpoint, methods=["GET"], middleware=[net()])


def _form(path: str, endpoint: Callable[..., Any]) -> Route:
    return Route(path, endpoint, methods=["POST"], middleware=[net()])
