"""The search server: always the live release, over HTTP for programs and over MCP for agents."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, FastAPI, Query, Request
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from ai_assets.base.errors import UserError
from ai_assets.desk.api_problems import add_handlers
from ai_assets.desk.context import Desk
from ai_assets.desk.probes import Probes
from ai_assets.search_server import answers
from ai_assets.search_server.answers import (
    MOST,
    LiveDocument,
    SearchAnswer,
    SearchedCollection,
    SearchRequest,
)
from ai_assets.search_server.readers import PERSON, Readers
from ai_assets.signoff.people import Person

MCP_PATH = "/mcp"
_Answer = TypeVar("_Answer")


def create_search(desk: Desk, always: str | None = None) -> ASGIApp:
    """`always`: everything is asked by that person, without tokens."""
    agents = _for_agents(desk)
    of_agents = agents.streamable_http_app(
        streamable_http_path=MCP_PATH,
        json_response=True,
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # Readers sees to it
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with agents.session_manager.run():
            yield

    app = FastAPI(title="ai-assets search", openapi_url="/openapi.json", docs_url="/docs", lifespan=lifespan)
    app.include_router(_for_programs(desk))
    app.routes.extend(Probes(desk).routes())
    app.routes.extend(of_agents.routes)
    add_handlers(app)
    return Readers(app, desk, always)


def _for_programs(desk: Desk) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.get("/collections")
    def collections(request: Request) -> list[SearchedCollection]:
        """What there is to be searched."""
        return answers.collections_of(desk, _asking(request))

    @routes.get("/{collection}/search")
    def search(
        request: Request,
        collection: str,
        q: Annotated[str, Query(description="A name, a number, or a question in your own words.", max_length=10_000)],
        k: Annotated[int, Query(ge=1, le=MOST)] = 5,
        label: Annotated[list[str] | None, Query(description="`stage:value`; all must hold.")] = None,
        partition: Annotated[list[str] | None, Query(description="Only of these.")] = None,
    ) -> SearchAnswer:
        """The best documents of the live release, full text and vectors together."""
        return answers.search(desk, _asking(request), collection, SearchRequest.of(q, k, label or [], partition or []))

    @routes.get("/{collection}/documents/{document:path}")
    def get(request: Request, collection: str, document: str) -> LiveDocument:
        """A document as it is live, with what each stage made of it."""
        return answers.document(desk, _asking(request), collection, document)

    @routes.get("/{collection}/explain/{document:path}")
    def explain(
        request: Request,
        collection: str,
        document: str,
        release: Annotated[int | None, Query(description="As it is in this one; by default in the live one.")] = None,
    ) -> dict[str, Any]:
        """Of a document or a passage (`chunk_id`): bytes, versions, calls, release, signature, each step; history."""
        return answers.explained(desk, _asking(request), collection, document, release)

    return routes


def _for_agents(desk: Desk) -> "MCPServer[Any]":
    logging.basicConfig(level=logging.WARNING)  # where nobody has, the SDK logs each question in colours
    server: MCPServer[Any] = MCPServer(
        "ai-assets",
        instructions="Search collections of documents. Every answer comes from the release that people signed and that "
        "is live now. Quote the document_id and the release of what you use.",
    )

    @server.tool()
    async def collections(context: "Context[Any, Request]") -> list[SearchedCollection]:
        """The collections that can be searched, with the stages whose labels can be filtered by."""
        return await anyio.to_thread.run_sync(answers.collections_of, desk, _asked_by(context))

    @server.tool()
    async def search(
        context: "Context[Any, Request]",
        collection: str,
        text: str,
        k: int = 5,
        labels: dict[str, str] | None = None,
        partitions: list[str] | None = None,
    ) -> SearchAnswer:
        """The best documents for a name, a number or a question; `labels` maps a stage to what it must say."""
        question = SearchRequest(text=text, k=k, labels=labels or {}, partitions=partitions or [])
        return await _said(answers.search, desk, _asked_by(context), collection, question)

    @server.tool()
    async def get(context: "Context[Any, Request]", collection: str, document_id: str) -> LiveDocument:
        """A whole document as it is live, with what each stage made of it."""
        return await _said(answers.document, desk, _asked_by(context), collection, document_id)

    @server.tool()
    async def explain(context: "Context[Any, Request]", collection: str, document_id: str) -> dict[str, Any]:
        """Where a document, or a passage by its chunk_id, comes from: bytes, prompts, calls, dollars, who signed."""
        return await _said(answers.explained, desk, _asked_by(context), collection, document_id)

    return server


async def _said(ask: Callable[..., _Answer], *arguments: Any) -> _Answer:
    """A refusal is for the agent to read, so it is the text of the error."""
    try:
        return await anyio.to_thread.run_sync(ask, *arguments)
    except UserError as error:
        raise ToolError(str(error)) from error


def _asking(request: Request) -> Person:
    found: Person = request.scope[PERSON]
    return found


def _asked_by(context: "Context[Any, Request]") -> Person:
    request = context.request_context.request
    assert request is not None  # it came over HTTP
    return _asking(request)
