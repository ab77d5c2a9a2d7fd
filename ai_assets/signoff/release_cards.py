"""The model card of a release as a record: what is in it, what made it, what was measured, who signed, what it cost.

It is gathered from what people signed (the candidate's digest, the request that they were shown) and from the ledger,
once, when the release is published; the audit chain has the digest of its bytes. It names no document.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.embedding.searched_by import SEARCHED_BY
from ai_assets.embedding.spec import WITHOUT, in_words
from ai_assets.evaluation.scoring import Score, errors_by_score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import GateVerdict, Interval, verdicts_of
from ai_assets.inference.answer_query import AnsweredCall, answers_behind
from ai_assets.signoff import audit, gate_stops, releases, requests
from ai_assets.signoff.audit import Record
from ai_assets.signoff.errors import CardAltered, NothingLive
from ai_assets.signoff.forgotten import STATUS as FORGOTTEN
from ai_assets.signoff.frozen_candidate import has_snapshot, snapshot_paths
from ai_assets.signoff.holds import HELD
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.releases import Part, Release
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import canonical_json, sha256_hex
from ai_assets.storage.lake import Lake, parquet_columns, read_parquet
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
FEW_ITEMS = 30
"""Golden items below which a score is a limit of its own."""
LEVEL = 0.95
NO_FILES = "the files of the partition are not kept any more, or are damaged: its models and prompts are not known"
NO_REQUEST = "the request that was signed is not kept any more: its evaluation is not known"


@dataclass(frozen=True, kw_only=True)
class CardSignature:
    person: str
    at: str | None
    """None where the audit chain has no such approval of this candidate."""


@dataclass(frozen=True, kw_only=True)
class Waiver:
    gate: str
    reason: str
    by: str
    at: str


@dataclass(frozen=True, kw_only=True)
class StageAnswers:
    """Documents of which a stage says something by the same model, prompt and endpoint."""

    stage: str
    model: str
    prompt: str | None
    """Its version, as it is declared; what it says is in the digest that is the stage's code version."""
    endpoint: str | None
    """None where no call was made, or the ledger does not have it."""
    documents: int


@dataclass(frozen=True, kw_only=True)
class PartitionCard:
    digest: str
    """What people signed."""
    content: str
    request_id: str
    requested_at: str | None
    run_id: str
    documents: int
    """Of the candidate, those that nobody could read among them."""
    quarantined: int
    passages: int
    without_vectors: int
    held: Mapping[str, int]
    """Answers that a rule held, by what became of them; `without it` and `marked it` wait for a person."""
    statuses: Mapping[str, int]
    languages: Mapping[str, int]
    code_versions: Mapping[str, str]
    answers: tuple[StageAnswers, ...]
    scores: tuple[Score, ...]
    slices: tuple[SliceScore, ...]
    gates: tuple[GateVerdict, ...]
    waivers: tuple[Waiver, ...]
    drift: str | None
    """The verdict in a sentence; None where drift was not looked at."""
    drifted: tuple[str, ...]
    signed: tuple[CardSignature, ...]
    launched: str
    """Who started the run, and how that is proved."""
    policy: str | None
    cost_usd: float | None
    """What all its answers and vectors cost when they were paid for, as signed."""
    paid_usd: float | None
    """Of the answers of its rows, what the run that made the candidate paid."""
    reused_usd: float | None
    """The same, paid by earlier runs."""
    unknown: tuple[str, ...]
    """What could not be gathered, in sentences."""


@dataclass(frozen=True, kw_only=True)
class ContractCard:
    """What readers were promised when it was published."""

    version: int
    digest: str
    columns: int
    """Of documents and passages together, how many are promised."""
    broken: tuple[str, ...]
    """Partitions whose rows break it."""


@dataclass(frozen=True, kw_only=True)
class CardComparison:
    """A changed prompt or route that was compared with what was live (docs/shadow.md), before the release was made."""

    shadow: str
    stage: str
    by: str
    at: str
    verdict: str
    """In a sentence; it names variants, and no document."""
    promoted: str | None
    """The variant that was made the declared one."""


@dataclass(frozen=True, kw_only=True)
class CardStop:
    """A candidate that a gate stopped before the release was made."""

    at: str
    partition: str
    gate: str
    verdict: str
    candidate: str
    value: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True, kw_only=True)
class ReleaseCard:
    format: int
    collection: str
    release: int
    digest: str
    """Of the release."""
    published_at: str
    published_by: str
    made_later: bool
    """It was not written when the release was published: the audit chain has no digest of it."""
    embeddings: str
    searched_by: str
    documents: int
    """That readers get."""
    partitions: Mapping[str, PartitionCard]
    limits: tuple[str, ...]
    compared: tuple[CardComparison, ...] = ()
    """Since the release before, in order."""
    contract: ContractCard | None = None
    stopped: tuple[CardStop, ...] = ()
    """Since the release before, in order."""

    @property
    def newest(self) -> PartitionCard | None:
        """The partition that was evaluated last, whose scores over the corpus are the newest."""
        return _judged_last(self.partitions.values())

    def encoded(self) -> str:
        return canonical_json(asdict(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptCard:
    text: str
    """Canonical JSON."""

    @cached_property
    def card(self) -> ReleaseCard:
        return _adapter().validate_json(self.text)

    @cached_property
    def digest(self) -> str:
        """As the audit chain has it, of one that was not made later."""
        return card_digest(self.text)


def card_digest(text: str) -> str:
    return sha256_hex(text.encode("utf-8", "surrogatepass"))


# Reading


def card_of(stores: Stores, collection: str, number: int | None = None) -> KeptCard:
    """Of the live release, unless another is named. Raises `CardAltered` where it is not what was published."""
    with stores.state.read() as connection:
        if number is None and (number := releases.live_number(connection, collection)) is None:
            raise NothingLive(collection)
        if (kept := kept_card(connection, collection, number)) is not None:
            return kept
        release = releases.get(connection, collection, number)
        return KeptCard(text=gathered(connection, stores.lake, release, made_later=True).encoded())


_looked_at: dict[str, KeptCard] = {}
"""By digest, the last two: of thousands of partitions one is some megabytes, and its pages are looked at one after the
other. What is stored is compared with it to the letter, which costs less than a hash."""


def kept_card(connection: sa.Connection, collection: str, number: int) -> KeptCard | None:
    """As it was published; None of a release of an earlier version, which had none."""
    query = sa.text("SELECT card FROM release_cards WHERE collection = :c AND number = :n")
    stored: str | None = connection.execute(query, {"c": collection, "n": number}).scalar_one_or_none()
    told = _told(connection, collection, number)
    if stored is None and told is None:
        return None
    if stored is None:
        raise CardAltered(collection, number, "it is gone")
    if told is None:
        raise CardAltered(collection, number, "the audit chain knows of none")
    if (known := _looked_at.get(told)) is not None and known.text == stored:
        return known
    if card_digest(stored) != told:
        raise CardAltered(collection, number, f"its bytes amount to {card_digest(stored)[:12]}, and {told[:12]} was")
    found = KeptCard(text=stored)
    for oldest in list(_looked_at)[:-1]:
        _looked_at.pop(oldest, None)
    _looked_at[told] = found
    return found


def kept_texts(connection: sa.Connection, collection: str) -> dict[int, str]:
    """All that are kept, by release. Raises `CardAltered` for the first that is not what was published."""
    query = sa.text("SELECT number, card FROM release_cards WHERE collection = :c ORDER BY number")
    stored: dict[int, str] = {row.number: row.card for row in connection.execute(query, {"c": collection})}
    for record in audit.select(connection, collections=[collection], actions=["published"]):
        told, number = record.subject.get("card"), int(str(record.subject["release"]))
        if told is not None and number not in stored:
            raise CardAltered(collection, number, "it is gone")
        if number in stored and card_digest(stored[number]) != told:
            raise CardAltered(collection, number, f"its bytes amount to {card_digest(stored[number])[:12]}")
    return stored


def _told(connection: sa.Connection, collection: str, number: int) -> str | None:
    for record in audit.select(connection, collections=[collection], actions=["published"]):
        if record.subject["release"] == number:
            found = record.subject.get("card")
            return None if found is None else str(found)
    return None


@cache
def _adapter() -> "TypeAdapter[ReleaseCard]":
    from pydantic import TypeAdapter

    return TypeAdapter(ReleaseCard)


def keep(connection: sa.Connection, collection: str, number: int, text: str) -> None:
    connection.execute(
        sa.text("INSERT INTO release_cards (collection, number, card) VALUES (:c, :n, :text)"),
        {"c": collection, "n": number, "text": text},
    )


# Gathering


def gathered(
    connection: sa.Connection,
    lake: Lake,
    release: Release,
    *,
    made_later: bool = False,
    before: ReleaseCard | None = None,
    anew: Container[str] = (),
) -> ReleaseCard:
    """`before`: the card of the release that this one goes on from. What it says of a partition is taken from there
    where that is the same, but for those `anew`."""
    known = {name: card for name, card in before.partitions.items() if name not in anew} if before else {}
    since = _made_before(connection, release)
    parts = {
        name: known[name] if name in known and _is_same(known[name], part) else _partition(
            connection, lake, release.collection, name, part
        )
        for name, part in sorted(release.parts.items())
    }  # fmt: skip
    card = ReleaseCard(
        format=FORMAT,
        collection=release.collection,
        release=release.number,
        digest=release.digest,
        published_at=release.created_at,
        published_by=release.created_by,
        made_later=made_later,
        embeddings=in_words(release.embeddings),
        searched_by=release.searched_by.in_words,
        documents=release.documents,
        partitions=parts,
        limits=(*_limits(parts), *_limits_of_contract(release)),
        compared=tuple(_compared(connection, release, since)),
        stopped=tuple(_stopped(connection, release, since)),
        contract=None
        if (promised := release.contract) is None
        else ContractCard(
            version=promised.version,
            digest=promised.digest,
            broken=promised.broken,
            columns=len(promised.contract.columns) + len(promised.contract.chunks),
        ),
    )
    return _adapter().validate_json(card.encoded())  # as it is read again, so that it is written the same then


def _compared(connection: sa.Connection, release: Release, since: str) -> Iterable[CardComparison]:
    query = sa.text(
        "SELECT name, stage, made_by, ended_at, promoted, results FROM shadows WHERE collection = :c AND "
        "state = 'done' AND ended_at > :since AND ended_at <= :until ORDER BY number"
    )
    moments = {"since": since, "until": release.created_at}
    for row in connection.execute(query, {"c": release.collection, **moments}):
        yield CardComparison(
            shadow=row.name,
            stage=row.stage,
            by=row.made_by,
            at=row.ended_at,
            verdict=str(json.loads(row.results)["verdict"]["said"]),
            promoted=row.promoted,
        )


def _stopped(connection: sa.Connection, release: Release, since: str) -> Iterable[CardStop]:
    """Without its sentence, which may quote a row."""
    found = gate_stops.find(connection, release.collection, since=since, until=release.created_at)
    for each in reversed(found):
        judged = each.judged
        yield CardStop(
            at=each.made_at,
            partition=each.partition,
            gate=each.gate,
            verdict=judged.verdict,
            candidate=each.digest or each.candidate,
            value=judged.value,
            interval=judged.interval,
            n=judged.n,
        )


def _made_before(connection: sa.Connection, release: Release) -> str:
    """When the release before it was made; before everything, where there is none."""
    query = sa.text("SELECT MAX(created_at) FROM releases WHERE collection = :c AND number < :n")
    since: str | None = connection.execute(query, {"c": release.collection, "n": release.number}).scalar_one()
    return since or ""


def card_before(connection: sa.Connection, release: Release | None) -> ReleaseCard | None:
    """For the next one to go on from; one that was altered is not gone on from."""
    if release is None:
        return None
    try:
        kept = kept_card(connection, release.collection, release.number)
    except CardAltered:
        return None
    return None if kept is None else kept.card


def _is_same(card: PartitionCard, part: Part) -> bool:
    same = (card.digest, card.request_id, card.content) == (part.digest, part.request_id, part.content)
    return same and not card.unknown


def _partition(connection: sa.Connection, lake: Lake, collection: str, name: str, part: Part) -> PartitionCard:
    asked = requests.get(connection, part.request_id)
    said: Mapping[str, Any] = asked.changes if asked else {}
    records = list(audit.records(connection, request_ids=[part.request_id]))
    rows = _rows(lake, collection, name, part)
    called = answers_behind(connection, rows.calls) if rows else {}
    drift = said.get("drift") or {}
    return PartitionCard(
        digest=part.digest,
        content=part.content,
        request_id=part.request_id,
        requested_at=asked.opened_at if asked else None,
        run_id=part.run_id,
        documents=part.documents,
        quarantined=part.quarantined,
        passages=part.chunks,
        without_vectors=said.get(WITHOUT, 0),
        held=_counted(str(each[3]) for each in said.get(HELD, ())),
        statuses=rows.statuses if rows else {},
        languages=rows.languages if rows else {},
        code_versions={
            asset: version for asset, version in part.code_versions.items() if asset not in (SEARCHED_BY, HELD)
        },
        answers=rows.answers(called) if rows else (),
        scores=scores_in(said),
        slices=tuple(SliceScore.of(each) for each in said.get("evaluation", {}).get("slices", ())),
        gates=verdicts_of(said),
        waivers=tuple(_waivers(records, part)),
        drift=drift.get("said"),
        drifted=tuple(_drifted(drift)),
        signed=tuple(CardSignature(person=each, at=_signed_at(records, part, each)) for each in part.approved_by),
        launched=Launch.told(said.get("launch")).in_words,
        policy=part.policy,
        cost_usd=said.get("cost_usd"),
        paid_usd=_sum(each for each in called.values() if each.run_id == part.run_id) if rows else None,
        reused_usd=_sum(each for each in called.values() if each.run_id != part.run_id) if rows else None,
        unknown=tuple(_unknown(asked, rows)),
    )


def _unknown(asked: SignoffRequest | None, rows: "_Rows | None") -> Iterable[str]:
    if asked is None:
        yield NO_REQUEST
    if rows is None:
        yield NO_FILES


def _counted(found: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(found).items()))


def _sum(calls: Iterable[AnsweredCall]) -> float | None:
    """Unknown where one of them is."""
    costs = [each.cost_usd for each in calls]
    known = [cost for cost in costs if cost is not None]
    return round(math.fsum(known), 9) if len(known) == len(costs) else None


def scores_in(said: Mapping[str, Any]) -> tuple[Score, ...]:
    """Of a request's summary; with intervals, where it is known how sure they are."""
    return with_intervals(said.get("scores") or (), said.get("evaluation", {}).get("errors", ()))


def with_intervals(rows: Iterable[Mapping[str, Any]], errors: Iterable[Sequence[Any]]) -> tuple[Score, ...]:
    """Scores as rows, each with the error that is kept of it: its key, then what `_with_interval` takes."""
    known = errors_by_score(errors)
    return tuple(_with_interval(score, known.get(tuple(score.key))) for score in map(Score.of, rows))


def _with_interval(score: Score, error: Sequence[Any] | None) -> Score:
    """`error`: the standard error of its value, and the number of clusters that it is of."""
    from ai_assets.statistics.intervals import share_bounds

    if score.interval is not None or score.value is None or error is None:
        return score
    bounds = share_bounds(score.value, error[0], error[1], LEVEL)
    return score if bounds is None else replace(score, interval=Interval(low=bounds.low, high=bounds.high, level=LEVEL))


def _waivers(records: Sequence[Record], part: Part) -> Iterable[Waiver]:
    for record in records:
        if record.action == "waived" and record.subject.get("digest") == part.digest:
            yield Waiver(
                gate=str(record.subject["gate"]),
                reason=str(record.subject["reason"]),
                by=record.actor,
                at=record.recorded_at,
            )


def _signed_at(records: Sequence[Record], part: Part, person: str) -> str | None:
    moments = [
        record.recorded_at
        for record in records
        if record.action == "approved" and record.actor == person and record.subject.get("digest") == part.digest
    ]
    return moments[0] if moments else None


def _drifted(drift: Mapping[str, Any]) -> Iterable[str]:
    from ai_assets.evaluation.drift import Comparison

    for each in drift.get("comparisons", ()):
        found = Comparison.of(each)
        if found.drifted:
            yield found.in_words


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Of the frozen documents, what a card says of them; texts are not read."""

    statuses: Mapping[str, int]
    languages: Mapping[str, int]
    said: Mapping[tuple[str, str, str | None, str | None], int]
    """By stage, model, prompt and call, of how many documents."""

    @property
    def calls(self) -> set[str]:
        return {call for _, _, _, call in self.said if call is not None}

    def answers(self, called: Mapping[str, AnsweredCall]) -> tuple[StageAnswers, ...]:
        found: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        for (stage, model, prompt, call), documents in self.said.items():
            answered = called.get(call or "")
            found[stage, model, prompt or "", answered.endpoint if answered else ""] += documents
        return tuple(
            StageAnswers(stage=key[0], model=key[1], prompt=key[2] or None, endpoint=key[3] or None, documents=number)
            for key, number in sorted(found.items())
        )


def _rows(lake: Lake, collection: str, partition: str, part: Part) -> _Rows | None:
    """None where the files are gone or are not what they were."""
    try:
        if not has_snapshot(lake, collection, partition, part):
            return None
        path, _ = snapshot_paths(lake, collection, partition, part)
        there = parquet_columns(path)
        stages = [name for name in part.code_versions if f"{name}_model" in there]
        columns = [name for name in ("status", "language") if name in there]
        for stage in stages:
            columns += [name for each in _OF_ANSWERS if (name := f"{stage}_{each}") in there]
        table = read_parquet(path, columns)
    except DatasetDamaged:
        return None
    values = {name: table[name].to_pylist() for name in columns}
    nothing = [None] * table.num_rows
    said: Counter[tuple[str, str, str | None, str | None]] = Counter()
    for stage in stages:
        each = zip(*(values.get(f"{stage}_{name}", nothing) for name in _OF_ANSWERS), strict=True)
        said.update((stage, model, prompt, call) for model, prompt, call in each if model is not None)
    return _Rows(
        statuses=_counted(each or "ok" for each in values.get("status", ())),
        languages=_counted(each for each in values.get("language", ()) if each),
        said=said,
    )


_OF_ANSWERS = ("model", "prompt_version", "call")


# Limits


def _limits(parts: Mapping[str, PartitionCard]) -> Iterable[str]:
    """What somebody should know before they rely on it; nothing is a limit that was looked at and is well."""
    every = list(parts.values())
    if not any(each.scores for each in every):
        yield "Nothing was measured on golden data."
    newest = _judged_last(every)
    few = [
        f"{score.metric}{f' of {score.stage}' if score.stage else ''} ({score.n})"
        for score in (newest.scores if newest else ())
        if score.scope == "corpus" and score.n < FEW_ITEMS
    ]
    if few:
        yield f"Fewer than {FEW_ITEMS} golden items judge {', '.join(few)}."
    yield from _limits_of_gates(parts)
    counts = {
        "Quarantined, because they could not be read": sum(each.quarantined for each in every),
        "Without vectors for some of their text, and found by words alone there": sum(
            each.without_vectors for each in every
        ),
        "Forgotten": sum(each.statuses.get(FORGOTTEN, 0) for each in every),
    }
    for what, number in counts.items():
        if number:
            yield f"{what}: {number:,} document{'s' * (number != 1)}."
    held = sum(number for each in every for became, number in each.held.items() if became.endswith(" it"))
    if held:
        yield f"Held until a person decides: {held:,} answer{'s' * (held != 1)}."
    drifted = [name for name, each in parts.items() if each.drifted]
    if drifted:
        yield f"Documents of {_named(drifted)} differ from those that were live."
    strangers = [name for name, each in parts.items() if each.launched.startswith("unknown")]
    if strangers:
        yield f"It is not known who started the run of {_named(strangers)}."
    unknown = defaultdict(list)
    for name, each in parts.items():
        for why in each.unknown:
            unknown[why].append(name)
    for why, names in sorted(unknown.items()):
        yield f"{_named(names)}: {why}."


def _limits_of_contract(release: Release) -> Iterable[str]:
    if release.contract is not None and release.contract.broken:
        yield f"Rows of {_named(release.contract.broken)} break the contract, version {release.contract.version}."


def _judged_last(parts: Iterable[PartitionCard]) -> PartitionCard | None:
    judged = (each for each in parts if each.scores)
    return max(judged, key=lambda each: (each.requested_at or "", each.digest), default=None)


def _limits_of_gates(parts: Mapping[str, PartitionCard]) -> Iterable[str]:
    undecided, waived = defaultdict(list), defaultdict(list)
    for name, each in parts.items():
        for gate in each.gates:
            if gate.verdict == "undecided":
                undecided[gate.name].append(name)
        for waiver in each.waivers:
            waived[waiver.gate].append(name)
    for gate_name, names in sorted(undecided.items()):
        yield f"The gate {gate_name} could not be decided for {_named(names)}."
    for gate_name, names in sorted(waived.items()):
        yield f"The gate {gate_name} was waived for {_named(names)}."


def _named(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {plural(len(names) - most, 'more partition')}"
