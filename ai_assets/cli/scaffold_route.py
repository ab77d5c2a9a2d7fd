"""What `ai-assets new --route` writes beside a collection: its prompt, and the endpoint where there is none."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.scaffold_entry import with_endpoint
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import EDIT_ME, EDIT_ME_URL, REHEARSAL
from ai_assets.stages.classify.kind import ClassifyStage

REHEARSAL_MODEL = "rehearsal-mini"
_ABOUT = "# Which models may be called, and for how much money: docs/inference.md\n"
_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


@dataclass(frozen=True, kw_only=True)
class WrittenEndpoint:
    """An endpoint that was added to `inference.yaml`."""

    name: str
    declared: Path
    text: str
    """The whole file with it."""
    to_edit: tuple[str, ...]
    """What a person has to fill in before it can be called."""


def endpoint_for(route: str, path: Path, base_url: str | None, model: str | None) -> WrittenEndpoint | None:
    """The endpoint to add for a route that `inference.yaml` does not have; None where it has one of that name."""
    declared = load_inference(path)
    if route in declared.routes or route in declared.endpoints:
        if base_url or model:
            raise ScaffoldRefused(
                route, f"{path} declares '{route}' already; leave out --base-url and --model, or choose another --route"
            )
        return None
    entry, to_edit = _entry(route, base_url, model)
    text = with_endpoint(route, path, entry, before_the_first=_ABOUT)
    return WrittenEndpoint(name=route, declared=path, text=text, to_edit=to_edit)


def _entry(name: str, base_url: str | None, model: str | None) -> tuple[str, tuple[str, ...]]:
    if base_url == REHEARSAL:
        entry = f"{name}:      # the rehearsal provider: it runs here, takes no key, and answers by rule\n"
        entry += f"  base_url: {REHEARSAL}\n  model: {model or REHEARSAL_MODEL}\n  errors_are_free: true\n"
        return entry + "  prices: [{from: 2026-01-01, input: 0.15, output: 0.60}]      # made up\n", ()
    local = base_url is not None and urlsplit(base_url).hostname in _LOCAL
    to_edit = [] if base_url else ["base_url"]
    to_edit += [] if model else ["model"]
    entry = f"{name}:\n  base_url: {base_url or EDIT_ME_URL}"
    entry += "\n" if base_url else f"      # {EDIT_ME}: where the model is, such as https://api.openai.com/v1\n"
    entry += f"  model: {model or EDIT_ME}"
    entry += "\n" if model else f"      # {EDIT_ME}: as the provider calls it\n"
    if local:
        return entry + "  free: true      # this machine's own; elsewhere: key and prices\n", tuple(to_edit)
    variable = re.sub(r"[^A-Z0-9]+", "_", name.upper()) + "_API_KEY"
    entry += f"  key: {variable}      # the environment variable that holds the key; never the key itself\n"
    entry += "  # prices: [{from: 2026-01-01, input: USD, output: USD}]      # per million tokens; needed for a call\n"
    return entry, (*to_edit, "prices")


def prompt_text(name: str) -> str:
    """The kind's own prompt as a file of the collection, to be edited."""
    text = ClassifyStage.PROMPT.read_text(encoding="utf-8")
    _, _, rest = text.partition("---\n")[2].partition("---\n")
    said = f"Which kind of document of {name} it is. Edit it; then raise the version and write your name as author."
    return f"---\nversion: 1\nauthor: ai-assets\ndescription: {said}\n---\n{rest}"
