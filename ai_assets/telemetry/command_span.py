"""Spans of work outside a run: a shadow or a canary with its calls below it, batches that are collected.

Nothing of OpenTelemetry is imported where no collector is configured.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ai_assets.inference.call_listener import Hearing
from ai_assets.telemetry.endpoints import is_configured

if TYPE_CHECKING:
    from ai_assets.inference.batch.batch_listener import BatchListener
    from ai_assets.inference.canary.asking import Hear
    from ai_assets.inference.canary.records import CanaryRun


@contextmanager
def command_span(name: str, about: Mapping[str, str], report: Callable[[str], None]) -> Iterator[Hearing]:
    """`about`: its attributes, by our names; `report` hears of a collector in trouble, once."""
    if not is_configured():
        yield Hearing()
        return
    from ai_assets.telemetry.opening import of_command

    telemetry = of_command(name, {f"ai_assets.{key}": value for key, value in about.items()}, report)
    if telemetry is None:
        yield Hearing()
        return
    hearing = Hearing(calls=telemetry.calls)
    try:
        yield hearing
    except BaseException as error:
        hearing.problem, hearing.problem_kind = str(error), type(error).__name__
        raise
    finally:
        telemetry.close(hearing.problem, hearing.problem_kind)


def canary_span(report: Callable[[str], None]) -> "Hear":
    """Of each run of a canary that asks."""

    def heard(run: "CanaryRun") -> AbstractContextManager[Hearing]:
        about = {"canary.run": str(run.run_id), "canary.model": run.model, "endpoint": run.endpoint}
        return command_span(f"canary {run.endpoint}", about, report)

    return heard


@contextmanager
def batches_told(report: Callable[[str], None]) -> "Iterator[BatchListener | None]":
    """Who hears of the batches that are collected within."""
    if not is_configured():
        yield None
        return
    from ai_assets.telemetry.batch_spans import BatchSpans

    spans = BatchSpans(report)
    try:
        yield spans
    finally:
        spans.close()
