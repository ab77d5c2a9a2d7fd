"""Which documents of a partition wait for a person, and what people said of them, before its candidate is frozen.

Documents are left out or marked, never changed: a rejected one is published as one that could not be read, with the
reviewer's reason. What is live already with this text and this answer was signed, and does not wait again.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import DatasetDamaged, OwnCodeFailed
from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.evaluation.drift import NAME as DRIFT
from ai_assets.evaluation.figures import figure
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.certificates import RunCertificate, certificate
from ai_assets.run.context import Work
from ai_assets.run.datasets.ceilings import ceiling_verdicts
from ai_assets.signoff import releases
from ai_assets.signoff.candidate import signable
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.hold_labels import number_of
from ai_assets.signoff.holds import HELD, HeldDocument, HoldDecisions
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.conditions import holds as meets
from ai_assets.stages.hold_settings import CertifiedSettings, HoldSettings, reasons_in
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.lake import Manifest, parquet_columns, read_rows
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.signoff.drifting import DriftFound

ANSWER_CHARACTERS = 160
Reason = tuple[str, str]
"""Which rule holds it, and why in a sentence."""
Subject = tuple[str, str, str, str]
_NOT_THE_ANSWER = frozenset({
    "status", "reason", "model", "prompt_version", "truncated", "call", "endpoint", "confidence", "confidence_from",
    "runner_up", "runner_up_confidence",
})  # fmt: skip
"""Columns that may change while the answer stays as it is."""


@dataclass(frozen=True, kw_only=True)
class PartitionHolds:
    waiting: Sequence[HeldDocument] = ()
    left_out: frozenset[str] = frozenset()
    marked: Mapping[str, str] = field(default_factory=dict)
    """By document, why, as the release says it."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """By document, who rejected it and why."""
    listed: Sequence[Sequence[Json]] = ()
    """All that is decided or waits: document, stage, rules, what became of it, who said so."""
    known: int = 0
    """Decisions up to this one were known."""
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """By stage that is certified, the guarantee in a sentence, or why it does not count at the moment."""
    suspended: Mapping[str, str] = field(default_factory=dict)
    """By stage whose threshold does not count, why."""

    @property
    def digest(self) -> str:
        """Empty where nothing is held and nothing was decided."""
        return digest([list(each) for each in self.listed]) if self.listed else ""

    @property
    def documents(self) -> int:
        """How many wait."""
        return len({each.document_id for each in self.waiting})


NOTHING = PartitionHolds()


def partition_holds(
    work: Work,
    partition: str,
    manifests: Mapping[str, Manifest],
    until: int | None,
    drift: "Callable[[PartitionHolds], DriftFound] | None" = None,
) -> PartitionHolds:
    """As it is with the decisions up to `until`; None for all.

    `drift` looks at the documents that would be published. Where it suspends a threshold, what that would have accepted
    is held: what is held decides which documents are looked at, and so the other way round would have no end.
    """
    if not work.collection.holding:
        return NOTHING
    decisions = work.hold_decisions.until(until)
    found = _Holding(work, partition, manifests, decisions).found(until)
    if drift is None or not watched_by_drift(work.collection) or (why := drift(found).suspends) is None:
        return found
    return _Holding(work, partition, manifests, decisions, why).found(until)


def watched_by_drift(collection: "Collection") -> bool:
    """Whether drift suspends a certified threshold of it."""
    declared = [stage.hold.certified for stage in collection.holding if stage.hold is not None]
    return any(each is not None and DRIFT in each.suspended_by for each in declared)


@dataclass(frozen=True)
class _Holding:
    work: Work
    partition: str
    manifests: Mapping[str, Manifest]
    decisions: HoldDecisions
    drift: str | None = None
    """Why drift suspends thresholds."""

    def found(self, until: int | None) -> PartitionHolds:
        waiting: list[HeldDocument] = []
        listed: list[Sequence[Json]] = []
        rejected: dict[str, str] = {}
        left_out, marked = set[str](), dict[str, list[str]]()
        for stage, declared, document, row, others in self._rows():
            subject = (stage.name, document["document_id"], document["digest"], _answer_digest(stage, row))
            said = self.decisions.about(subject, declared.reviewers)
            name, reasons = document["document_id"], list(self._reasons(stage, declared, subject, row, others))
            kinds: list[Json] = [kind for kind, _ in reasons]
            if said.decided is not None and said.decided.decision == "reject":
                rejected[name] = f"rejected by {said.decided.author}: {said.decided.reason}"
                listed.append([name, stage.name, kinds, "rejected", list(said.authors)])
            elif not reasons or _is_corrected(declared, row):
                continue
            elif said.decided is not None:
                became = "corrected" if said.decided.decision == "correct" else "accepted"
                listed.append([name, stage.name, kinds, became, list(said.authors)])
            elif subject not in self._live:
                waiting.append(self._held(stage, declared, subject, row, reasons))
                listed.append([name, stage.name, kinds, f"{declared.release} it", []])
                if declared.release == "marked":
                    marked.setdefault(name, []).extend(f"{stage.name}: {why}" for _, why in reasons)
                else:
                    left_out.add(name)
        return PartitionHolds(
            waiting=waiting,
            left_out=frozenset(left_out - rejected.keys()),
            marked={name: "; ".join(why) for name, why in marked.items() if name not in left_out},
            rejected=rejected,
            listed=sorted(listed, key=lambda each: (str(each[0]), str(each[1]))),
            known=self.decisions.last if until is None else until,
            thresholds={
                name: f"suspended: {self._suspended[name]}" if name in self._suspended else found.certified.sentence
                for name, found in self.work.certificates.items()
            },
            suspended=self._suspended,
        )

    def _rows(self) -> Iterator[tuple[StageSettings, HoldSettings, Row, Row, Mapping[str, Row | None]]]:
        """Of each readable document and stage that holds: its row, and those of the stages it is compared with."""
        holding = [(stage, stage.hold) for stage in self.work.collection.holding if stage.hold is not None]
        compared = {declared.disagrees_with for _, declared in holding if declared.disagrees_with}
        names = {stage.name for stage, _ in holding} | compared
        made = {name: ByDocument(self.work.rows(self.manifests[name])) for name in names}
        for document in self.work.rows(self.manifests["documents"], ["document_id", "digest", "status"]):
            if document["status"] != "ok":
                continue
            rows = {name: made[name].one(document["document_id"]) for name in names}
            for stage, declared in holding:
                row = rows[stage.name]
                if row is not None:
                    yield stage, declared, document, row, rows

    def _reasons(
        self, stage: StageSettings, declared: HoldSettings, subject: Subject, row: Row, others: Mapping[str, Row | None]
    ) -> Iterator[Reason]:
        for column, wanted in (declared.fields or {}).items():
            if meets({column: wanted}, row):
                yield "field", f"{column} is as declared under 'fields'"
        if row.get("status") == "quarantined":
            return  # there is no answer to be unsure of
        if declared.below is not None and (why := _too_low(row, declared.below)):
            yield "confidence", why
        if declared.certified is not None and (why := self._uncertified(stage, row)):
            yield "certified", why
        if declared.disagrees_with is not None:
            other = next(each for each in self.work.collection.stages if each.name == declared.disagrees_with)
            theirs = others[other.name]
            if theirs is not None and _headline(stage, row) != _headline(other, theirs):
                yield "disagreement", f"{other.name} says something else"
        if declared.rule is not None and (why := self._by_rule(stage.name, declared, subject[1], row)):
            yield "rule", why
        if declared.audit is not None and number_of("audit", self.work.collection.name, *subject) < declared.audit:
            yield "audit", f"drawn for the audit of {declared.audit:.4g} of all"

    def _uncertified(self, stage: StageSettings, row: Row) -> str | None:
        found = self._certified[stage.name]
        if (suspended := self._suspended.get(stage.name)) is not None:
            return f"the certified threshold is suspended: {suspended}"
        if found.certified.threshold is None:
            return found.certified.sentence
        return _too_low(row, found.certified.threshold)

    @cached_property
    def _certified(self) -> Mapping[str, RunCertificate]:
        return {stage.name: certificate(self.work, stage, declared) for stage, declared in self._certifying}

    @cached_property
    def _suspended(self) -> Mapping[str, str]:
        """By stage whose threshold does not count at the moment, why."""
        found = {}
        for stage, declared in self._certifying:
            stopped = [
                f"gate {each.name} {each.in_words}"
                for each in (self._verdicts if set(declared.suspended_by) - {DRIFT} else ())
                if each.name in declared.suspended_by and each.verdict != "passed"
            ]
            if self.drift is not None and DRIFT in declared.suspended_by:
                stopped.append(self.drift)
            if stopped:
                found[stage.name] = "; ".join(stopped)
        return found

    @property
    def _certifying(self) -> Sequence[tuple[StageSettings, CertifiedSettings]]:
        holding = [(stage, stage.hold) for stage in self.work.collection.holding if stage.hold is not None]
        return [(stage, hold.certified) for stage, hold in holding if hold.certified is not None]

    @cached_property
    def _verdicts(self) -> Sequence[GateVerdict]:
        from ai_assets.run.datasets import answered, score_gates

        judged = [*answered.all_verdicts(self.work, self.partition), *ceiling_verdicts(self.work, self.partition)]
        scores = self.manifests.get("evaluation_scores")
        return [*judged, *(score_gates.gate_verdicts(self.work, scores) if scores is not None else ())]

    def _by_rule(self, stage: str, declared: HoldSettings, document: str, row: Row) -> str | None:
        assert declared.rule is not None
        function: Callable[..., Any] = self.work.collection.own.holds[stage]
        try:
            return reasons_in(function(dict(row), **declared.options))
        except Exception as error:  # the user's own code: the rule, the document and the line are named
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno}, document '{document}')"
            raise OwnCodeFailed("hold rule", declared.rule, said) from error

    def _held(
        self, stage: StageSettings, declared: HoldSettings, subject: Subject, row: Row, reasons: Sequence[Reason]
    ) -> HeldDocument:
        confidence = _number(row.get("confidence"))
        used = _number(row.get(declared.use)) if declared.use else None
        expected = 1 - confidence if confidence is not None else 0.5
        headline = _headline(stage, row)
        return HeldDocument(
            collection=self.work.collection.name,
            partition=self.partition,
            stage=stage.name,
            document_id=subject[1],
            document_digest=subject[2],
            answer_digest=subject[3],
            answer=None if headline is None else str(headline)[:ANSWER_CHARACTERS],
            confidence=confidence,
            kinds=tuple(kind for kind, _ in reasons),
            why=tuple(why for _, why in reasons),
            value=round(max(0.0, expected) * (1.0 if used is None else max(0.0, used)), 9),
            held_at=now(),
        )

    @cached_property
    def _live(self) -> frozenset[Subject]:
        """What readers have already, unmarked: texts and answers that were signed."""
        work = self.work
        with work.stores.state.read() as connection:
            live = releases.live(connection, work.collection.name)
        part = live.parts.get(self.partition) if live else None
        if part is None:
            return frozenset()
        path, _ = snapshot_paths(work.stores.lake, work.collection.name, self.partition, part)
        try:
            there = set(parquet_columns(path))
            wanted = {name for stage in work.collection.holding for name in _released(stage).values()}
            columns = ["document_id", "digest", "status", *sorted(wanted & there), *({HELD} & there)]
            return frozenset(
                (stage.name, row["document_id"], row["digest"], _answer_digest(stage, row, _released(stage)))
                for row in read_rows(path, columns)
                if row["status"] == "ok" and not row.get(HELD)
                for stage in work.collection.holding
                if there >= set(_released(stage).values())
            )
        except DatasetDamaged:
            return frozenset()  # said where it is published; what is not known to be live waits


def _answer_columns(stage: StageSettings) -> tuple[str, ...]:
    if isinstance(stage, ClassifyStage):
        return ("model_label",)
    return tuple(name for name in stage.columns.published if name not in _NOT_THE_ANSWER)


def _released(stage: StageSettings) -> Mapping[str, str]:
    """The columns of its answer, as a release names them."""
    return {name: f"{stage.name}_{name}" for name in _answer_columns(stage)}


def _answer_digest(stage: StageSettings, row: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    said = {name: signable(row.get((names or {}).get(name, name))) for name in _answer_columns(stage)}
    return digest(said)[:32]


def _headline(stage: StageSettings, row: Row) -> Any:
    """What the stage itself says, whatever people said instead."""
    return row.get("model_label" if isinstance(stage, ClassifyStage) else stage.columns.headline)


def _is_corrected(declared: HoldSettings, row: Row) -> bool:
    """A person gave the label of this text already, and one is enough."""
    return declared.reviewers == 1 and row.get("corrected_by") is not None


def _too_low(row: Row, threshold: float) -> str | None:
    confidence = _number(row.get("confidence"))
    if confidence is None:
        return "it has no confidence"
    return f"confidence {figure(confidence, threshold)} is below {threshold:g}" if confidence < threshold else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return float(value)
