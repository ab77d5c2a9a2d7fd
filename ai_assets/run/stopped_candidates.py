"""What a run writes down of a candidate that a gate stopped, before its partition fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ai_assets.checks.errors import GateFailed
from ai_assets.run.context import Work
from ai_assets.signoff import gate_stops
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.storage.digest import Json

CANDIDATE = "release_candidate"


@contextmanager
def stops_recorded(work: Work, partition: str) -> Iterator[None]:
    """To be entered under the partition's lease."""
    try:
        yield
    except GateFailed as stopped:
        names = work.collection.inputs_of(CANDIDATE)
        found = {name: made for name in names if (made := work.manifest(name, partition)) is not None}
        versions = {name: made.version for name, made in found.items()}
        evidence: dict[str, Json] = {"datasets": versions}
        if "evaluation_scores" in found and (golden := found["evaluation_scores"].stats.get("golden")):
            evidence["golden set"] = {"number": golden["set"], "digest": golden["digest"]}
        frozen = _frozen(work, partition, versions)
        with work.fenced() as connection:
            gate_stops.record(
                connection, work.collection.name, partition, stopped.verdicts, evidence=evidence, frozen=frozen,
                run_id=work.run_id,
            )  # fmt: skip
        raise


def _frozen(work: Work, partition: str, versions: Mapping[str, Any]) -> str | None:
    """Its digest, where the candidate that is there is the one that was stopped."""
    made = work.manifest(CANDIDATE, partition)
    if made is None or any(made.inputs.get(name) != version for name, version in versions.items()):
        return None
    return FrozenCandidate.of(made).digest
