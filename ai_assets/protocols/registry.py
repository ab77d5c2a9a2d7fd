"""Which protocols there are: the built-in ones by name, others by `module:name` or by the name of an entry point."""

from __future__ import annotations

from pathlib import Path

from ai_assets.base.errors import ExtensionUnusable
from ai_assets.base.yaml_settings import nearest
from ai_assets.extensions import builtin, installed, load_class
from ai_assets.protocols.base import Protocol

OPENAI = "openai"
BUILTIN = {
    OPENAI: "ai_assets.protocols.openai:OpenAI",
    "kserve": "ai_assets.protocols.kserve:KServe",
    "tei": "ai_assets.protocols.tei:TextEmbeddingsInference",
}

_loaded: dict[str, Protocol] = {}


def protocol_of(reference: str, near: Path | None = None) -> Protocol:
    """Loaded once. A module is looked for in the project of the file `near`. Raises ExtensionUnusable."""
    found = _loaded.get(reference)
    if found is None:
        found = _loaded[reference] = _made(reference, near)
    return found


def known(name: str) -> Protocol | None:
    """The protocol that a row of the ledger names; None where this process has not loaded it."""
    if name in BUILTIN:
        return protocol_of(name)
    return next((protocol for protocol in _loaded.values() if protocol.name == name), None)


def _made(reference: str, near: Path | None) -> Protocol:
    if reference in BUILTIN:
        ours: Protocol = builtin(BUILTIN[reference])()
        return ours
    if ":" not in reference:
        installed_names = [point.name for point in installed("protocol")]
        if reference not in installed_names:
            hint = nearest(reference, [*BUILTIN, *installed_names])
            said = f"there is none of that name (your own is module:name){hint}"
            raise ExtensionUnusable("protocol", reference, said)
    kind: type[Protocol] = load_class("protocol", reference, Protocol, near)
    name = getattr(kind, "name", None)
    if not isinstance(name, str) or not name:
        raise ExtensionUnusable("protocol", reference, "it has no 'name', by which the ledger knows it")
    same = next((other for other, protocol in _loaded.items() if protocol.name == name), None)
    if name in BUILTIN or same is not None:
        raise ExtensionUnusable("protocol", reference, f"its name '{name}' is that of the protocol '{same or name}'")
    if kind.joins_texts and (kind.join is Protocol.join or kind.split is Protocol.split):
        raise ExtensionUnusable("protocol", reference, "it says 'joins_texts' and lacks 'join' or 'split'")
    if kind.streams and Protocol.streaming in (kind.streaming, kind.piece, kind.assembled):
        raise ExtensionUnusable("protocol", reference, "it says 'streams' and lacks 'streaming'")
    try:
        return kind()
    except Exception as error:
        said = f"making it failed: {type(error).__name__}: {error}"
        raise ExtensionUnusable("protocol", reference, said) from error
