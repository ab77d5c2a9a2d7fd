"""`ai-assets scaffold backend`: the file of a protocol, its test, and an endpoint in `inference.yaml` that uses it."""

import keyword
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.output import console, home
from ai_assets.cli.scaffold_entry import with_endpoint, write_all
from ai_assets.inference.load import load_inference
from ai_assets.protocols.registry import BUILTIN

_PROTOCOL = '''"""How the model server `{name}` is spoken to. What each method does: docs/extending.md of ai-assets."""

import json
from typing import Any

from ai_assets import Request
from ai_assets.inference.records import Usage
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols import NotAnAnswer, Protocol, Reply


class {kind}(Protocol):
    name = "{name}"  # in each row of the ledger: with another one every call is paid for again

    def path(self, endpoint: Endpoint, kind: str) -> str:
        return "generate"

    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        """Edit this: what the server is sent. The same request must give the same bytes."""
        body: dict[str, Any] = {{
            "model": endpoint.llm,
            "prompt": "\\n\\n".join(str(message["content"]) for message in request.messages),
            "max_tokens": request.max_output_tokens,
        }}
        if request.schema is not None:
            body["schema"] = request.schema
        return json.dumps(body).encode()

    def decode(self, body: str, kind: str) -> Reply:
        """Edit this: what the server says. It is called again, years later, with what is in the ledger."""
        try:
            said = json.loads(body)
            usage = Usage(input_tokens=said["input_tokens"], output_tokens=said["output_tokens"])
            return Reply(text=said["text"], usage=usage)
        except (ValueError, KeyError, TypeError) as error:
            raise NotAnAnswer(f"this is no answer of {name}: {{error!r}}") from error
'''
_TEST = '''"""The protocol `{name}` by hand. Run it with: python -m pytest tests/test_{module}.py"""

import json

import pytest
from ai_assets import Request
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols import NotAnAnswer
from {module} import {kind}

ENDPOINT = Endpoint.model_validate({{"base_url": "http://localhost", "model": "m", "free": True}})


def test_a_request_is_written_the_same_each_time() -> None:
    request = Request(messages=({{"role": "user", "content": "Hello"}},), max_output_tokens=5)
    first, second = ({kind}().encode(ENDPOINT, request) for _ in range(2))
    assert first == second
    assert json.loads(first) == {{"model": "m", "prompt": "Hello", "max_tokens": 5}}


def test_an_answer_is_read() -> None:
    reply = {kind}().decode('{{"text": "Hi", "input_tokens": 3, "output_tokens": 1}}', "chat")
    assert (reply.text, reply.usage.input_tokens, reply.usage.output_tokens) == ("Hi", 3, 1)


def test_what_is_no_answer_is_not_taken_for_one() -> None:
    with pytest.raises(NotAnAnswer):
        {kind}().decode("<html>Bad Gateway</html>", "chat")
'''
_ENDPOINT = """{name}:
  protocol: "{module}:{kind}"
  base_url: {url}
  model: {model}
  free: true   # own hardware; elsewhere  prices: [{{from: 2026-01-01, input: USD, output: USD}}]  per million tokens
"""


@dataclass(frozen=True, kw_only=True)
class ScaffoldedBackend:
    protocol: Path
    test: Path
    declared: Path


def scaffold_backend(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the endpoint and of its protocol.")],
    url: Annotated[str, typer.Option(help="Where the model server is.")] = "http://localhost:8080",
    model: Annotated[str, typer.Option(help="The model's name there.")] = "default",
) -> None:
    """Write a protocol of one's own with its test, and an endpoint in inference.yaml that speaks it."""
    made = write_backend(name, url, model, home().project, home().inference)
    console.print(f"Wrote {made.protocol}, {made.test} and endpoint '{name}' in {made.declared}.")
    console.print(f"Edit it, then name the endpoint where a stage asks a model:  route: {name}")


def write_backend(name: str, url: str, model: str, project: Path, inference: Path) -> ScaffoldedBackend:
    """All three, or none of them: a file that is there is never written over."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name in BUILTIN:
        raise ScaffoldRefused(name, "it must be a lower-case name of Python that no built-in protocol has")
    module, kind = f"{name}_backend", "".join(part.title() for part in name.split("_")) or "Own"
    protocol, test = project / f"{module}.py", project / "tests" / f"test_{module}.py"
    words = {"name": name, "module": module, "kind": kind, "url": url, "model": model}
    files = {protocol: _PROTOCOL.format(**words), test: _TEST.format(**words)}
    first = f"routes: {{default: {{endpoints: [{name}]}}}}\n"
    declaration = with_endpoint(name, inference, _ENDPOINT.format(**words), after_the_first=first)
    write_all(name, files, {inference: declaration}, lambda: load_inference(inference))
    return ScaffoldedBackend(protocol=protocol, test=test, declared=inference)
