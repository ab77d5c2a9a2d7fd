"""Candidates that a gate stopped, for good: a later run that passes does not take them back.

Such a candidate has no request, so the audit chain has a record of its own for it: once for the same verdict of the
same candidate, however often it is run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.signoff import audit
from ai_assets.signoff.people import SYSTEM
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.state import now, storable

ERASABLE = ("sentence", "slice")
"""Of a verdict, what may quote a row."""


@dataclass(frozen=True, kw_only=True)
class GateStop:
    stop: str
    """Digest of the candidate and the verdict."""
    collection: str
    partition: str
    candidate: str
    """Digest of the versions of the datasets that it would have been made from."""
    digest: str | None
    """Of the candidate as people would have signed it; None where it was stopped before it was frozen."""
    gate: str
    verdict: str
    """As JSON, without what may quote a row."""
    slice: str | None
    sentence: str
    evidence: str
    """As JSON: the version of each dataset, and the golden set that judged."""
    run_id: str
    made_at: str
    """When it was stopped so for the first time."""

    @property
    def judged(self) -> GateVerdict:
        return GateVerdict.of({**json.loads(self.verdict), "slice": self.slice, "sentence": self.sentence})

    @property
    def shown_by(self) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads(self.evidence)
        return found

    @property
    def recorded(self) -> str:
        """What the audit chain has of it."""
        return stop_record(vars(self))


TABLE = sa.table("gate_stops", *(sa.column(each.name) for each in fields(GateStop)))


def stop_record(row: Mapping[str, Any]) -> str:
    return digest([row[name] for name in ("candidate", "digest", "gate", "verdict", "evidence", "run_id", "made_at")])


def record(
    connection: sa.Connection,
    collection: str,
    partition: str,
    verdicts: Sequence[GateVerdict],
    *,
    evidence: Mapping[str, Json],
    frozen: str | None,
    run_id: str,
) -> None:
    """Those of the verdicts that stop a candidate, each once."""
    candidate = digest(evidence["datasets"])
    for verdict in verdicts:
        if not verdict.stops:
            continue
        made = _stop(collection, partition, candidate, frozen, verdict)
        query = sa.select(TABLE.c.stop).where(TABLE.c.stop == made.stop)
        if connection.execute(query).scalar_one_or_none() is not None:
            continue
        made = replace(made, evidence=canonical_json(evidence), run_id=run_id, made_at=now())
        connection.execute(sa.insert(TABLE).values(vars(made)))
        subject: dict[str, Json] = {
            "collection": collection, "partition": partition, "stop": made.stop, "candidate": candidate,
            "gate": verdict.name, "verdict": verdict.verdict, "record": made.recorded,
        }  # fmt: skip
        audit.append(connection, SYSTEM, "stopped", subject)


def _stop(collection: str, partition: str, candidate: str, frozen: str | None, verdict: GateVerdict) -> GateStop:
    said = {name: value for name, value in verdict.as_data().items() if name not in ERASABLE}
    # A sentence may have more than the verdict: it tells two stops apart only where there is no number that does.
    words = verdict.sentence if verdict.value is None else None
    return GateStop(
        stop=digest([collection, partition, candidate, frozen, said, words]),
        collection=collection, partition=partition, candidate=candidate, digest=frozen, gate=verdict.name,
        verdict=canonical_json(said), slice=storable(verdict.slice), sentence=storable(verdict.sentence) or "",
        evidence="", run_id="", made_at="",
    )  # fmt: skip


def find(
    connection: sa.Connection,
    collection: str,
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
) -> list[GateStop]:
    """The newest first; after a moment, up to a moment."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection)
    if since is not None:
        query = query.where(TABLE.c.made_at > since)
    if until is not None:
        query = query.where(TABLE.c.made_at <= until)
    order = (TABLE.c.made_at.desc(), TABLE.c.partition, TABLE.c.gate, TABLE.c.stop)
    return [GateStop(**row) for row in connection.execute(query.order_by(*order).limit(limit)).mappings()]
