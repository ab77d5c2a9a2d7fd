"""What stands for an answer that a batch is to bring."""

from dataclasses import dataclass

from ai_assets.inference.records import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A request whose call travels in a batch, or could not be put into one yet."""

    request: Request
