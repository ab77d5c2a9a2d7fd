"""Claims about `ai-assets serve`: the live release and nothing else, to whoever has a token that reads."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import DAYS, STAGE, Project, free_port, project_at
from published import DAY, FIRST, OTHER, published_twice
from signing import known
from starlette.testclient import TestClient

from ai_assets.base.errors import UserError
from ai_assets.desk.context import Desk
from ai_assets.desk.settings import DeskSettings
from ai_assets.search_server import answers
from ai_assets.search_server.app import create_search
from ai_assets.search_server.server import serve
from ai_assets.signoff import launch_tokens, live_index, people
from ai_assets.signoff.errors import TokenRefused


def token(project: Project, name: str, *, reads: bool = True) -> str:
    with project.stores().state.write() as connection:
        return launch_tokens.make(connection, name, days=1, by="test", reads=reads)[0]


@pytest.fixture(scope="module")
def told(labelled_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Ann sees notes; eve has a role in another collection alone."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("served"), patch)
        made.copy(labelled_project)
        published_twice(made)
        made.declare("others", stages=[dict(STAGE)], partitions=dict(DAYS))
        known(made.stores().state, "eve", "viewer", "others")
        yield made


@pytest.fixture(scope="module")
def client(told: Project) -> Iterator[TestClient]:
    desk = Desk(stores=told.stores(), settings=DeskSettings(), url="http://localhost", dagster_url=None)
    with TestClient(create_search(desk)) as opened:
        opened.headers["Authorization"] = f"Bearer {token(told, 'ann')}"
        yield opened


def test_hits_are_of_the_live_release_with_labels(client: TestClient) -> None:
    found = client.get("/v1/notes/search", params={"q": "heron", "k": 2}).json()
    assert (found["collection"], found["release"], found["by_words"]) == ("notes", 2, False)
    assert (found["hits"][0]["document_id"], found["hits"][0]["labels"]) == (FIRST, {"kind": "invoice"})
    [listed] = client.get("/v1/collections").json()
    assert (listed["name"], listed["release"], listed["documents"], listed["stages"]) == ("notes", 2, 6, ["kind"])


@pytest.mark.parametrize("first", [50, 1])
def test_filters_leave_the_best_of_what_passes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:  # fmt: skip
    monkeypatch.setattr(answers, "_FIRST", first)  # of one, nearly all that passes is ranked by itself

    def ids(**filters: Any) -> list[str]:
        hits = client.get("/v1/notes/search", params={"q": "pump leak invoice hall", "k": 3, **filters}).json()["hits"]
        return [hit["document_id"] for hit in hits]

    every = client.get("/v1/notes/search", params={"q": "pump leak invoice hall", "k": 6}).json()["hits"]
    of_kind = [hit["document_id"] for hit in every if hit["labels"]["kind"] == "incident"]
    assert ids(label="kind:incident") == of_kind[:3]
    assert 0 < len(of_kind) < len(every)
    assert ids(partition=OTHER) == [hit["document_id"] for hit in every if hit["partition"] == OTHER]
    assert ids(label="kind:nothing") == []
    assert ids(label="kind:incident", partition="elsewhere") == []
    scores = [hit["score"] for hit in client.get("/v1/notes/search", params={
        "q": "pump leak invoice hall", "k": 6, "label": "kind:incident"}).json()["hits"]]  # fmt: skip
    assert scores == sorted(scores, reverse=True)
    refused = client.get("/v1/notes/search", params={"q": "pump", "label": "colour:red"})
    assert (refused.status_code, refused.json()["error"]) == (
        400, "notes has no stage 'colour' to filter by; it has kind. Write label=STAGE:VALUE.",
    )  # fmt: skip


def test_a_document_and_where_it_comes_from(client: TestClient) -> None:
    found = client.get(f"/v1/notes/documents/{FIRST}").json()
    assert "heron" in found["document"]["text"]
    assert (found["partition"], found["signed_by"], found["release"]) == (DAY, ["ann"], 2)
    assert "leaf" not in found["document"]
    assert client.get(f"/v1/notes/explain/{FIRST}").json()["live"]["release"] == 2
    [hit] = client.get("/v1/notes/search", params={"q": "heron", "k": 1}).json()["hits"]
    told = client.get(f"/v1/notes/explain/{hit['chunk_id']}", params={"release": 2}).json()["provenance"]
    assert (told["document"], told["chunk"], told["standing"]) == (FIRST, hit["chunk_id"], "live")
    assert [step["step"] for step in told["steps"]][-2:] == ["release", "target"]
    missing = client.get("/v1/notes/documents/none.txt")
    assert (missing.status_code, missing.json()["error"]) == (404, "notes has no document 'none.txt' in release 2.")


def test_a_rollback_is_seen_by_the_next_question(told: Project, client: TestClient) -> None:
    with told.stores().state.read() as connection:
        ann = people.find(connection, "ann")
    assert ann is not None
    try:
        live_index.roll_back(told.stores(), "notes", 1, by=ann, reason="a test")
        found = client.get("/v1/notes/search", params={"q": "heron", "k": 6}).json()
        assert (found["release"], "heron" in str(found["hits"])) == (1, False)
    finally:
        live_index.roll_back(told.stores(), "notes", 2, by=ann, reason="a test")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "This server wants a bearer token"),
        ("Bearer nonsense", "it has not the form of one"),
        ("Basic YW5uOng=", "This server wants a bearer token"),
        (f"Bearer aia-r{'0' * 11}-{'x' * 43}", "it is none of this installation"),
    ],
)
def test_strangers_are_answered_nothing_but_the_probes(client: TestClient, header: str, said: str) -> None:
    for path in ("/v1/collections", f"/v1/notes/documents/{FIRST}", "/docs", "/openapi.json", "/mcp"):
        refused = client.get(path, headers={"Authorization": header})
        assert refused.status_code == 401
        assert said in refused.json()["error"]
        assert "notes" not in refused.text
    assert client.get("/health", headers={"Authorization": header}).text == "ok"


def test_a_token_reads_or_starts_and_never_both(told: Project, client: TestClient) -> None:
    starts, reads = token(told, "ann", reads=False), token(told, "ann")
    refused = client.get("/v1/collections", headers={"Authorization": f"Bearer {starts}"})
    assert (refused.status_code, "of ann starts runs" in refused.json()["error"]) == (401, True)
    with told.stores().state.read() as connection, pytest.raises(TokenRefused, match="reads and starts nothing"):
        launch_tokens.holder(connection, reads)


def test_what_somebody_may_not_see_is_not_there(told: Project, client: TestClient) -> None:
    eve = {"Authorization": f"Bearer {token(told, 'eve')}"}
    assert client.get("/v1/collections", headers=eve).json() == []
    for path in ("search?q=heron", f"documents/{FIRST}", f"explain/{FIRST}"):
        hidden = client.get(f"/v1/notes/{path}", headers=eve)
        unknown = client.get(f"/v1/nothing/{path}", headers=eve)
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.json()["error"].replace("notes", "X") == unknown.json()["error"].replace("nothing", "X")
    assert client.get("/v1/others/search?q=heron", headers=eve).json()["error"].startswith("others has no live release")


def test_as_somebody_is_for_this_machine_alone(told: Project) -> None:
    with pytest.raises(UserError, match=r"for this machine alone and not for 0\.0\.0\.0"):
        serve(told.home, "0.0.0.0", 3002, "ann", print)
    with pytest.raises(UserError, match="Nobody called 'bob' is known here"):
        serve(told.home, "127.0.0.1", free_port(), "bob", print)
    desk = Desk(stores=told.stores(), settings=DeskSettings(), url="http://localhost", dagster_url=None)
    with TestClient(create_search(desk, "ann"), base_url="http://localhost:3002") as opened:
        assert opened.get("/v1/notes/search?q=heron").json()["release"] == 2
        rebound = opened.get("/v1/collections", headers={"Host": "evil.example:3002"})
        assert (rebound.status_code, "localhost alone" in rebound.json()["error"]) == (401, True)


@contextmanager
def running(project: Project) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ai-assets"), "serve", "--port", str(port)], cwd=project.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                if httpx.get(f"{url}/health").text == "ok":
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGTERM), said
    [line] = said.splitlines()
    assert line.startswith("Search is at http://localhost:")


@pytest.mark.slow
def test_a_real_agent_searches_reads_and_is_told_what_is_wrong(told: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client of the official SDK."""
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    for name, value in told.home.variables().items():
        monkeypatch.setenv(name, value)
    headers = {"Authorization": f"Bearer {token(told, 'ann')}"}

    async def ask(url: str) -> None:
        import httpx2

        async with (
            httpx2.AsyncClient(headers=headers, timeout=300) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as agent,
        ):
            tools = {tool.name for tool in (await agent.list_tools()).tools}
            assert tools == {"collections", "search", "get", "explain"}
            asked = {"collection": "notes", "text": "heron", "k": 1, "labels": {"kind": "invoice"}}
            found = await agent.call_tool("search", asked)
            assert found.structured_content is not None
            assert found.structured_content["hits"][0]["document_id"] == FIRST
            whole = await agent.call_tool("get", {"collection": "notes", "document_id": FIRST})
            assert whole.structured_content is not None
            assert "heron" in whole.structured_content["document"]["text"]
            wrong = await agent.call_tool("search", {**asked, "collection": "nothing"})
            assert wrong.is_error
            assert "There is no collection 'nothing' that you may see" in str(wrong.content)

    with running(told) as url:
        asyncio.run(ask(url))
        assert httpx.get(f"{url}/v1/collections").status_code == 401
