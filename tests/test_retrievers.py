"""Claims about the retrievers in `examples/`: what LangChain and LlamaIndex find is live, and says who signed it."""

import asyncio
import importlib.util
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from conftest import Project, free_port, project_at
from published import DAY, FIRST, published_twice

from ai_assets.desk.context import Desk
from ai_assets.desk.settings import DeskSettings
from ai_assets.search_server.app import create_search
from ai_assets.signoff import launch_tokens, live_index, people

if importlib.util.find_spec("langchain_core") is None or importlib.util.find_spec("llama_index") is None:
    pytest.skip("LangChain and LlamaIndex are not here: pip install -r tests/engines.txt", allow_module_level=True)

PAGE = Path(__file__).parents[1] / "docs" / "serve.md"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the two packages themselves


@pytest.fixture(scope="module")
def told(labelled_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("retrievers"), patch)
        made.copy(labelled_project)
        published_twice(made)
        yield made


@pytest.fixture(scope="module")
def asked(told: Project) -> Iterator[dict[str, str]]:
    """Address and token of a server that listens."""
    with told.stores().state.write() as connection:
        token = launch_tokens.make(connection, "ann", days=1, by="test", reads=True)[0]
    desk = Desk(stores=told.stores(), settings=DeskSettings(), url="http://localhost", dagster_url=None)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_search(desk), port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield {"url": f"http://127.0.0.1:{port}", "token": token}
    server.should_exit = True
    thread.join()


def retrievers(asked: dict[str, str]) -> list[Any]:
    """Each as a function of a question, which gives metadata."""
    from pydantic import SecretStr

    from examples.langchain_retriever import SignedRetriever as OfLangChain
    from examples.llama_index_retriever import SignedRetriever as OfLlamaIndex

    chain = OfLangChain(url=asked["url"], token=SecretStr(asked["token"]), collection="notes", k=6)
    llama = OfLlamaIndex("notes", k=6)
    return [
        lambda text: [(found.page_content, found.metadata) for found in chain.invoke(text)],
        lambda text: [(found.page_content, found.metadata) for found in asyncio.run(chain.ainvoke(text))],
        lambda text: [(found.node.get_content(), found.node.metadata) for found in llama.retrieve(text)],
    ]


def test_what_is_found_says_of_which_release_it_is_and_who_signed(told: Project, asked: dict[str, str]) -> None:
    with told.stores().state.read() as connection:
        ann = people.find(connection, "ann")
    assert ann is not None
    for retrieve in retrievers(asked):
        text, said = retrieve("heron")[0]
        assert "heron" in text
        wanted = {"document_id": FIRST, "partition": DAY, "release": 2, "labels": {"kind": "invoice"},
                  "signed_by": ["ann"], "collection": "notes"}  # fmt: skip
        assert {name: said[name] for name in wanted} == wanted
        assert len(said["digest"]) == 64
        assert {"page", "headings", "title"} <= set(said)
        try:
            live_index.roll_back(told.stores(), "notes", 1, by=ann, reason="a test")
            found = retrieve("heron")
            assert {said["release"] for _, said in found} == {1}
            assert "heron" not in str(found)
        finally:
            live_index.roll_back(told.stores(), "notes", 2, by=ann, reason="a test")


def test_labels_filter_and_a_refusal_is_the_servers_sentence(told: Project, asked: dict[str, str]) -> None:
    from pydantic import SecretStr

    from examples.langchain_retriever import SignedRetriever

    chosen = SignedRetriever(
        url=asked["url"], token=SecretStr(asked["token"]), collection="notes", labels={"kind": "incident"}
    )
    found = chosen.invoke("pump leak invoice hall")
    assert found
    assert {each.metadata["labels"]["kind"] for each in found} == {"incident"}
    with pytest.raises(ValueError, match="This server wants a bearer token"):
        SignedRetriever(url=asked["url"], collection="notes").invoke("pump")


def test_the_lines_of_the_page_run(told: Project, asked: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        here = block.replace("http://localhost:3002", asked["url"]).replace("aia-r...", asked["token"])
        exec(compile(here.replace("handbook", "notes"), "serve.md", "exec"), {})  # noqa: S102  # the document is ours
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("['ann']") for line in lines)
