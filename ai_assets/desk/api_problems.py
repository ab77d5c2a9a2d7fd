"""How refusals leave the API: always a `Problem`, never a traceback, never what was sent."""

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ai_assets.base.errors import UserError
from ai_assets.desk.refusal import RETRY_AFTER_S, status_of
from ai_assets.storage.state import storable

MOST_SHOWN = 5
"""Mistakes in what was sent; a person mends them one by one."""


def joined(errors: Sequence[UserError]) -> str:
    return " ".join(dict.fromkeys(str(error) for error in errors))


def add_handlers(api: FastAPI) -> None:
    api.add_exception_handler(UserError, _user_error)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unexpected)


def problem(said: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": storable(said) or ""}, status, headers=headers)


async def _user_error(_request: Request, error: Exception) -> JSONResponse:
    status = status_of(error) if isinstance(error, UserError) else 500
    return problem(str(error), status, {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Where the mistake is and what it is, without what was sent: that may be anything."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    told = [f"{'.'.join(str(step)[:80] for step in item['loc'])}: {item['msg']}" for item in found[:MOST_SHOWN]]
    return problem("; ".join(told), 422)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        return await _unexpected(_request, error)
    return problem(str(error.detail), error.status_code, dict(error.headers) if error.headers else None)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return problem("Something went wrong on the server; its log says what. Nothing half done is kept.", 500)
