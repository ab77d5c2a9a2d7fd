"""Whether the stages on a route have enough answers for a candidate of their partition."""

from collections import Counter

from ai_assets.checks.errors import AnswersMissing
from ai_assets.documents import retries
from ai_assets.evaluation.answered import AnswerCounts, answered_gate, judge_answered
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Work
from ai_assets.storage.lake import Manifest
from ai_assets.storage.state import now


def verdict_of(work: Work, manifest: Manifest) -> GateVerdict:
    """Of one stage; what was not asked, for want of a text or of an earlier answer, is not counted."""
    stats = manifest.stats
    with work.stores.state.read() as connection:
        found = retries.find(connection, manifest.collection, partition=manifest.partition, asset=manifest.asset)
    answered = AnswerCounts(
        stage=manifest.asset,
        asked=stats["documents_out"] + stats["unanswered"],
        answered=stats["documents_out"],
        errors=Counter(retry.error for retry in found) if stats["unanswered"] else {},
    )
    return judge_answered(answered_gate(work.collection.settings.metric_gates, manifest.asset), answered)


def all_verdicts(work: Work, partition: str) -> list[GateVerdict]:
    return [
        verdict_of(work, work.input("release_candidate", partition, stage.name))
        for stage in work.collection.stages
        if stage.name in work.collection.questions
    ]


def require_answers(work: Work, partition: str) -> None:
    """No candidate of a stage with too few answers."""
    failed = [verdict for verdict in all_verdicts(work, partition) if verdict.stops]
    if failed:
        with work.stores.state.read() as connection:
            waiting = retries.waiting(connection, work.collection, now()).get(partition)
        stages = [str(verdict.stage) for verdict in failed]
        next_at = None if waiting is None or waiting.next_at is None else retries.shown(waiting.next_at)
        raise AnswersMissing(work.collection.name, partition, failed, stages[0], next_at)
