"""What an answer of the ledger says, for people: read by the protocol that its attempt was made with."""

import contextlib
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.inference.load import load_inference
from ai_assets.protocols.base import Fault, Protocol
from ai_assets.protocols.registry import known


def answer_text(body: str | None, protocol_name: str, inference: Path) -> str | None:
    """As it came where its protocol is not at hand. `inference` is the file that may name it."""
    if body is None:
        return None
    if (protocol := known(protocol_name) or _declared(protocol_name, inference)) is None:
        return body
    for kind in sorted(protocol.kinds):
        try:
            reply = protocol.decode(body, kind)
        except Exception:  # noqa: BLE001 - of another kind, or own code that fails: the body is shown
            continue
        if isinstance(reply, Fault):
            return reply.message
        if kind == "embedding":
            return f"a vector of {plural(len(reply.vector), 'number')}"
        return reply.text or str(list(reply.tool_calls))
    return body


def _declared(protocol_name: str, inference: Path) -> Protocol | None:
    """One of the user's own is found where inference.yaml names it."""
    with contextlib.suppress(UserError):
        load_inference(inference)
    return known(protocol_name)
