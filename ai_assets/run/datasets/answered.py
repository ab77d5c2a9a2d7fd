"""Whether the stages on a route have enough answers for a candidate of their partition."""

from collections import Counter

from ai_assets.checks.suites import CheckOutcome
from ai_assets.collection.settings import ANSWERED_CHECK
from ai_assets.documents import retries
from ai_assets.errors import AnswersMissing
from ai_assets.evaluation.answered import Answered, answered_gate, judge_answered
from ai_assets.evaluation.scoring import GateResult
from ai_assets.run.context import Work
from ai_assets.storage.lake import Manifest
from ai_assets.storage.state import now


def results_of(work: Work, manifest: Manifest) -> GateResult:
    """Of one stage; what was not asked, for want of a text or of an earlier answer, is not counted."""
    stats = manifest.stats
    with work.stores.state.read() as connection:
        found = retries.find(connection, manifest.collection, partition=manifest.partition, asset=manifest.asset)
    answered = Answered(
        stage=manifest.asset,
        asked=stats["documents_out"] + stats["unanswered"],
        answered=stats["documents_out"],
        errors=Counter(retry.error for retry in found) if stats["unanswered"] else {},
    )
    return judge_answered(answered_gate(work.collection.settings.gates, manifest.asset), answered)


def all_results(work: Work, partition: str) -> list[GateResult]:
    return [
        results_of(work, work.input("release_candidate", partition, stage.name))
        for stage in work.collection.stages
        if stage.name in work.collection.questions
    ]


def check_answered(work: Work, manifest: Manifest) -> CheckOutcome:
    """It stops the candidate and no stage: what follows asks about the documents that do have an answer."""
    result = results_of(work, manifest)
    return CheckOutcome(
        asset=manifest.asset,
        partition=manifest.partition,
        name=ANSWERED_CHECK,
        passed=result.passed,
        blocking=not result.passed and not result.gate.waivable,
        failures=[] if result.passed else [result.message],
        details={
            "documents_asked": result.n,
            "minimum": result.gate.min,
            **({} if result.value is None else {"answered_share": result.value}),
        },
    )


def require_answers(work: Work, partition: str) -> None:
    """No candidate of a stage with too few answers."""
    failed = [result for result in all_results(work, partition) if not result.passed and not result.gate.waivable]
    if failed:
        with work.stores.state.read() as connection:
            waiting = retries.waiting(connection, work.collection, now()).get(partition)
        stages = [str(result.gate.stage) for result in failed]
        next_at = None if waiting is None or waiting.next_at is None else retries.shown(waiting.next_at)
        raise AnswersMissing(work.collection.name, partition, [result.message for result in failed], stages[0], next_at)
