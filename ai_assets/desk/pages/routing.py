"""Which address shows what. Others link to these, so they do not change."""

from starlette.routing import BaseRoute, Route

from ai_assets.desk.pages import account, audit, decision, document, inbox, releases, request


def routes() -> list[BaseRoute]:
    return [
        Route("/", inbox.inbox),
        Route("/decisions", decision.several, methods=["POST"]),
        Route("/requests/{request_id}", request.page),
        Route("/requests/{request_id}/decision", decision.one, methods=["POST"]),
        Route("/requests/{request_id}/ask-again", request.ask_again, methods=["POST"]),
        Route("/requests/{request_id}/document", document.page),
        Route("/requests/{request_id}/correction", document.correct, methods=["POST"]),
        Route("/requests/{request_id}/notes", document.note, methods=["POST"]),
        Route("/audit", audit.page),
        Route("/audit.jsonl", audit.export),
        Route("/releases", releases.overview),
        Route("/releases/{collection}", releases.page),
        Route("/releases/{collection}/rollback", releases.rollback, methods=["POST"]),
        Route("/account", account.page),
        Route("/account/sessions", account.end_session, methods=["POST"]),
    ]
