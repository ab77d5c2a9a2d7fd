"""How large a batch fits, by model and device, over all processes: found out by running out of memory once."""

import datetime

import sqlalchemy as sa

from ai_assets.local_models.spec import ModelSpec
from ai_assets.storage.state import StateStore, now, upsert

TRY_AGAIN_S = 86_400.0
"""After this the double is tried: what else was on the device may be gone."""


def recall(state: StateStore, spec: ModelSpec, device: str, most: int) -> int:
    """The tokens of a batch to begin with."""
    with state.read() as connection:
        row = connection.execute(_FIND, {"model": _name(spec), "device": device}).one_or_none()
    if row is None:
        return most
    age = datetime.datetime.fromisoformat(now()) - datetime.datetime.fromisoformat(row.measured_at)
    tokens = int(row.tokens) * (2 if age.total_seconds() > TRY_AGAIN_S else 1)
    return min(tokens, most)


def remember(state: StateStore, spec: ModelSpec, device: str, tokens: int) -> None:
    with state.write() as connection:
        upsert(
            connection,
            "batch_sizes",
            {"model": _name(spec), "device": device},
            {"tokens": tokens, "measured_at": now()},
        )


def _name(spec: ModelSpec) -> str:
    return f"{spec.backend}/{spec.model}/{spec.dtype}"


_FIND = sa.text("SELECT tokens, measured_at FROM batch_sizes WHERE model = :model AND device = :device")
