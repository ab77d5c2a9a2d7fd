"""Asking for sign-off of a candidate: what people are shown, and the few facts an inbox ranks it by."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.embedding.spec import WITHOUT, spaces_key
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Work
from ai_assets.run.datasets import answered
from ai_assets.run.datasets.ceilings import ceiling_verdicts
from ai_assets.run.datasets.holding import NOTHING, PartitionHolds
from ai_assets.signoff import canaries, contracts, releases, requests
from ai_assets.signoff.candidate import Headed, difference, leaves_of_files, snapshot_folder
from ai_assets.signoff.frozen_candidate import FrozenCandidate, snapshot_paths
from ai_assets.signoff.risk import LOW_CONFIDENCE, request_risk
from ai_assets.signoff.served import is_whole
from ai_assets.stages.base import StageSettings
from ai_assets.storage.lake import Manifest, parquet_columns, read_rows

MOST_COMPARISONS = 12
MOST_GOLDEN = 12
HEADLINE_CHARACTERS = 160
"""Of a text, in the table of the candidate; the release holds all of it."""


def ask(work: Work, partition: str, manifest: Manifest, held: PartitionHolds = NOTHING) -> str | None:
    """Open a request for this digest, once; an earlier candidate's request or unused approval is void.

    The id of the request in which it is decided on, or was.
    """
    stages = [stage.name for stage in work.collection.stages]
    frozen = FrozenCandidate.of(manifest)
    digest = frozen.digest
    with work.stores.state.read() as connection:
        live = releases.live(connection, work.collection.name)
        current = requests.latest_of(connection, work.collection.name, partition)
    part = live.parts.get(partition) if live else None
    of_canary = _of_canary(work, frozen)
    of_contract = _of_contract(work, frozen)
    news = _canary_news(current, of_canary) or _contract_news(current, of_contract)
    known_now = work.launch.known and _waits_for_a_known_author(work, current)
    if (
        current is not None
        and current.digest == digest
        and current.status in requests.ANSWERED
        and not (known_now or news)
    ):
        return current.request_id
    lost = live is not None and part is not None and _lost(work, partition, live, part)
    published = () if part is None or lost else _published(work, partition, part)
    changes = difference(_candidate(work, manifest), published, stages)
    verdicts = [*_verdicts(work, partition), *_of_drift(work, frozen), *of_canary, *of_contract]
    facts = {**_facts(work, partition, frozen, changes, verdicts), **_held_facts(work, held)}
    summary = {
        **changes,
        "documents": frozen.documents,
        "quarantined": frozen.quarantined,
        **_holes(frozen),
        **_held_summary(held),
        "scores": frozen.scores,
        **_evaluated(work, partition),
        "cost_usd": frozen.cost_usd,
        "live_release": live.number if live else None,
        "live_scores": _live_scores(work, partition, part),
        "run_id": manifest.run_id,
        "gates": [verdict.as_data() for verdict in verdicts],
        "authors": work.authors,
        "launch": work.launch.as_data(),
        "files": {"documents_file": frozen.documents_file, "chunks_file": frozen.chunks_file},
        "live_files": {"documents_file": part.documents_file, "chunks_file": part.chunks_file}
        if part and not lost
        else None,
        "since_last": _since_last(work, partition, current, manifest, stages),
        **_drift(work, frozen),
        **_golden(work, partition),
    }
    with work.fenced() as connection:
        asked = requests.open_request(
            connection,
            work.collection.name,
            partition,
            digest,
            summary=summary,
            facts=facts,
            risk=request_risk(facts, verdicts),
            nothing_new=_is_live(manifest, part) if part else frozen.is_unreadable,
            author_known=known_now,
            news=news,
        )
    if part is None and frozen.documents and frozen.is_unreadable:
        work.say(_nothing_to_sign(work, partition, frozen.documents))
    return asked.request_id if asked else part.request_id if part else None


def _nothing_to_sign(work: Work, partition: str, number: int) -> str:
    """Why nobody is asked about a candidate of which no document can be read."""
    rows = work.rows(work.input("release_candidate", partition, "documents"), ["document_id", "status", "reason"])
    reasons = Counter(row["reason"] for row in rows if row["status"] == "quarantined")
    most = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
    return (
        f"{partition}: none of its {plural(number, 'document')} can be read, so no sign-off is asked for ({most}). "
        "What is no document belongs into 'exclude' of the source."
    )


def _waits_for_a_known_author(work: Work, current: requests.SignoffRequest | None) -> bool:
    """Whether the collection asks more of a candidate whose author is not known, and this request is of such a one."""
    if work.collection.settings.signoff.unknown_author == "allow":
        return False
    return current is not None and current.status == "open" and not requests.launch_of(current).known


def _candidate(work: Work, manifest: Manifest) -> Iterator[Headed]:
    return _headed(work, work.rows(manifest))


def _headed(work: Work, rows: Iterable[Mapping[str, Any]]) -> Iterator[Headed]:
    stages = [(stage.name, headline(stage)) for stage in work.collection.stages]
    for row in rows:
        yield row["document_id"], row["leaf"], {name: row[column] for name, column in stages}, row["status"]


def _verdicts(work: Work, partition: str) -> list[GateVerdict]:
    found = [*answered.all_verdicts(work, partition), *ceiling_verdicts(work, partition)]
    if work.collection.settings.score_gates:
        scores = work.input("release_candidate", partition, "evaluation_scores")
        from ai_assets.run.datasets import score_gates  # a further process of a run judges nothing

        return [*score_gates.gate_verdicts(work, scores), *found]
    return found


def _golden(work: Work, partition: str) -> dict[str, Any]:
    """Which golden items the scores are by, for people to look at: leaked and disputed ones by name."""
    if not work.collection.evaluates:
        return {}
    stats = work.input("release_candidate", partition, "evaluation_scores").stats
    if "golden" not in stats:
        return {}
    named = {name: stats["details"].get(name, [])[:MOST_GOLDEN] for name in ("leaked", "disputed")}
    return {"golden": {**stats["golden"], "named": named}}


def _of_drift(work: Work, frozen: FrozenCandidate) -> list[GateVerdict]:
    """Where drift may hold a candidate back."""
    settings = work.collection.settings.drift
    return [] if settings is None or settings.blocks == "no" else [work.drift.found(frozen).verdict]


def _of_canary(work: Work, frozen: FrozenCandidate) -> list[GateVerdict]:
    """Where rows that a changed model made may hold a candidate back."""
    if not work.collection.canaries:
        return []
    verdict = work.canary(frozen).verdict
    return [verdict] if verdict.holds else []


def _canary_news(current: requests.SignoffRequest | None, now: Sequence[GateVerdict]) -> str:
    """Why people are asked again about a candidate that they have not decided on."""
    if current is None or current.status != "open":
        return ""
    if [each.sentence for each in current.verdicts if each.name == canaries.GATE] == [each.sentence for each in now]:
        return ""
    if now:
        return "the same candidate is asked about again: a model that made rows of it has changed"
    return "the same candidate is asked about again: the changed model that made rows of it was accepted"


def _of_contract(work: Work, frozen: FrozenCandidate) -> list[GateVerdict]:
    """Whether readers still get what they were promised."""
    verdict = work.contract(frozen)
    return [] if verdict is None else [verdict]


def _contract_news(current: requests.SignoffRequest | None, now: Sequence[GateVerdict]) -> str:
    """Why people are asked again about the same candidate: also one that they approved, for what they were told of the
    contract does not hold any more."""
    if current is None or current.status not in ("open", "approved"):
        return ""
    told = [each.sentence for each in current.verdicts if each.name == contracts.GATE and each.holds]
    if told == [each.sentence for each in now if each.holds]:
        return ""
    what = "breaks the contract in another way" if now and now[0].holds else "keeps the contract, as it is now"
    return f"the same candidate is asked about again: it {what}"


def _drift(work: Work, frozen: FrozenCandidate) -> dict[str, Any]:
    """What was compared, for people to look at: all that drifted, and the largest of the rest."""
    if work.collection.settings.drift is None:
        return {}
    found = work.drift.found(frozen)
    shown = found.comparisons[: max(MOST_COMPARISONS, len(found.drifted))]
    return {"drift": {"said": found.verdict.sentence, "comparisons": [each.as_data() for each in shown]}}


def _evaluated(work: Work, partition: str) -> dict[str, Any]:
    """What the digest of the candidate does not hold of its scores: how sure they are, and the slices."""
    if "evaluation_scores" not in work.collection.inputs_of("release_candidate"):
        return {}
    stats = work.input("release_candidate", partition, "evaluation_scores").stats
    found = {name: stats[name] for name in ("errors", "slices") if stats.get(name)}
    return {"evaluation": found} if found else {}


def _facts(
    work: Work, partition: str, frozen: FrozenCandidate, changes: Mapping[str, Any], verdicts: Sequence[GateVerdict]
) -> dict[str, Any]:
    """What an inbox shows, so that it need not read summaries of any size."""
    touched = {*changes["added"], *changes["changed"]}
    sure = [f"{s.name}_confidence" for s in work.collection.stages if "confidence" in s.columns.published]
    path, _ = frozen.paths(work.stores.lake)
    unsure = set()
    for row in read_rows(path, ["document_id", *sure]) if sure else ():
        name, given = row["document_id"], (row[column] for column in sure)
        if name in touched and any(value is not None and value < LOW_CONFIDENCE for value in given):
            unsure.add(name)
    return {
        "documents": frozen.documents,
        "quarantined": frozen.quarantined,
        **_holes(frozen),
        **{name: len(changes[name]) for name in ("added", "changed", "removed", "relabelled", "unreadable")},
        "low_confidence": len(unsure),
        "gates": len(verdicts),
        "passed_gates": sum(verdict.verdict == "passed" for verdict in verdicts),
        "failed_gates": sum(verdict.holds for verdict in verdicts),
        "cost_usd": frozen.cost_usd,
        "authors": work.authors,
        "launch": work.launch.as_data(),
    }


def _holes(frozen: FrozenCandidate) -> dict[str, int]:
    """How many documents are without vectors, where there are any."""
    return {WITHOUT: frozen.without_vectors} if frozen.without_vectors else {}


def _held_facts(work: Work, held: PartitionHolds) -> dict[str, int]:
    """How many documents wait, and up to which decision the candidate knows them."""
    return {"held": held.documents, "hold_decisions": held.known} if work.collection.holding else {}


def _held_summary(held: PartitionHolds) -> dict[str, Any]:
    """All that the digest says of held documents, so that it can be held against it."""
    found: dict[str, Any] = {"held": [list(each) for each in held.listed]} if held.listed else {}
    return {**found, **({"hold_thresholds": dict(held.thresholds)} if held.thresholds else {})}


def _live_scores(work: Work, partition: str, part: releases.Part | None) -> list[dict[str, Any]] | None:
    """What was measured of the candidate that is live, to hold the new scores against."""
    if part is None:
        return None
    with work.stores.state.read() as connection:
        asked = requests.get(connection, part.request_id)
    return asked.changes["scores"] if asked else None


def _since_last(
    work: Work,
    partition: str,
    last: requests.SignoffRequest | None,
    candidate: Manifest,
    stages: Sequence[str],
) -> dict[str, Any] | None:
    """The difference from the candidate that people were asked about before this one."""
    files = last.changes.get("files") if last else None
    if last is None or files is None:
        return None
    folder = snapshot_folder(work.stores.lake.root, work.collection.name, partition)
    path = work.stores.lake.bring(folder / files["documents_file"])
    try:
        there = set(parquet_columns(path))
        rows = read_rows(
            path, ["document_id", "status", "leaf", *sorted(there & set(map(headline, work.collection.stages)))]
        )
        before = _headed(work, ({**row, **headlines(work, row)} for row in rows))
        changes = difference(_candidate(work, candidate), before, stages)
    except DatasetDamaged:
        return None  # an old candidate's files may be gone
    return {"request_id": last.request_id, "status": last.status, **changes}


def _is_live(manifest: Manifest, part: releases.Part) -> bool:
    """The same rows, searched in the same way, and vectors made by the same embedder even where they are equal."""
    frozen = FrozenCandidate.of(manifest)
    same = spaces_key(frozen.embeddings) == spaces_key(part.embeddings)
    same &= frozen.searched_by.key == part.searched_by.key
    return part.content == frozen.content and (same or not part.chunks)


def _lost(work: Work, partition: str, live: releases.Release, part: releases.Part) -> bool:
    """Whether the live release's files are gone or altered, so that every document of the candidate has to be looked at
    as if it were new. What is still computed from the same rows has been made again by now."""
    if is_whole(work.stores, work.collection.name, partition, part):
        return False
    work.say(
        f"{partition}: the files of release {live.number} are gone or were altered, and cannot be made again, because "
        "the documents have changed since; every document of the candidate is shown as added. Its files are "
        f"{part.documents_file} and {part.chunks_file}: bring them back from a backup."
    )
    return True


def _published(work: Work, partition: str, part: releases.Part) -> Iterator[Headed]:
    files = snapshot_paths(work.stores.lake, work.collection.name, partition, part)
    for row, leaf in leaves_of_files(*files, work.forgotten):
        yield row["document_id"], leaf, by_stage(work, row), row["status"]


def by_stage(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    shown = headlines(work, row)
    return {stage.name: shown[headline(stage)] for stage in work.collection.stages}


def headline(stage: StageSettings) -> str:
    return f"{stage.name}_{stage.columns.headline}"


def headlines(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    """What each stage says of a document of a candidate or a release, in short."""
    found = {headline(stage): row.get(headline(stage)) for stage in work.collection.stages}
    return {name: in_short(value) for name, value in found.items()}


def in_short(said: object) -> str | None:
    """Also of a column that is no text: a number of a function or of a kind of one's own."""
    text = None if said is None else str(said)
    return text[:HEADLINE_CHARACTERS] + "…" if text and len(text) > HEADLINE_CHARACTERS else text
