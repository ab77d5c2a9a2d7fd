"""`ai-assets evaluate`: what was measured, and how the gates judge it; nothing is measured again, no model is asked."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.base.errors import FileUnwritable, UserError
from ai_assets.base.plural import plural
from ai_assets.base.printable import readable_json
from ai_assets.cli.output import AsJson, CollectionName, collection, console, errors, print_json, stores_to_read, table
from ai_assets.collection.loading import Collection
from ai_assets.planning.preview import PreviewWork
from ai_assets.run.evaluated import EVALUATION, evaluated_partitions, evaluation_of, stored_verdicts
from ai_assets.run.evaluation_reports import PartitionReport, inspect_log, junit
from ai_assets.signoff import gate_stops
from ai_assets.signoff.card_markdown import score_row, slice_row
from ai_assets.signoff.gate_stops import GateStop
from ai_assets.storage.stores import Stores

Partition = Annotated[
    list[str] | None, typer.Option("--partition", help="Only this partition's gates; may be repeated.")
]
MOST_SHOWN = 10


class NotEvaluated(UserError):
    def __init__(self, name: str, partition: str | None, known: Sequence[str]) -> None:
        what = f"Partition '{partition}' of {name}" if partition else name
        there = f" Evaluated are {', '.join(known[:5])}{' and more' if len(known) > 5 else ''}." if known else ""
        super().__init__(
            f"{what} was not evaluated yet.{there} A run does it, where golden labels or golden queries are declared: "
            f"ai-assets run {name}"
        )


def evaluate(
    name: CollectionName,
    partition: Partition = None,
    to_junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML: a test for each gate and slice.")
    ] = None,
    to_inspect: Annotated[
        Path | None, typer.Option("--inspect", metavar="FILE", help="Write the newest evaluation as an inspect_ai log.")
    ] = None,
    to_mlflow: Annotated[
        str | None,
        typer.Option("--mlflow", metavar="DIR_OR_URI", help="Export each release as a run of MLflow, once."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show stored scores, and hold the declared gates against them; exit code 1 where one fails.

    Nothing is computed that costs anything: what has changed since the last run is not seen.
    """
    chosen, places = collection(name), stores_to_read()
    reports = _reports(chosen, places, partition or [])
    newest = reports[0].evaluation
    with places.state.read() as connection:
        stops = [each for each in gate_stops.find(connection, name) if not partition or each.partition in partition]
    if to_junit is not None:
        _write(to_junit, junit(name, reports))
    if to_inspect is not None:
        _write(to_inspect, readable_json(inspect_log(chosen, newest), indent=1) + "\n")
    if to_mlflow is not None:
        _export(places, name, to_mlflow)
    failed = [case for report in reports for case in report.cases if case.outcome == "failed"]
    if as_json:
        print_json(_plain(name, reports, stops))
    else:
        _show(name, reports)
        _show_stops(stops)
    if failed:
        if not as_json:
            errors.print(f"{len(failed)} of {sum(len(report.cases) for report in reports)} failed", style="red")
        raise typer.Exit(1)


def _export(places: Stores, name: str, to: str) -> None:
    from ai_assets.run.evaluation_mlflow import export_releases

    done = export_releases(places, name, to)
    runs = plural(len(done.made), "run")
    errors.print(f"MLflow: {runs} made in {done.experiment}, {len(done.kept)} there already.")
    if "://" not in to:
        errors.print(f"Look: mlflow ui --backend-store-uri {done.address}")


def _reports(chosen: Collection, places: Stores, wanted: Sequence[str]) -> list[PartitionReport]:
    """The one that was evaluated last comes first."""
    with places.state.read() as connection:
        known = evaluated_partitions(connection, chosen.name)
    if missing := next((each for each in wanted if each not in known), None):
        raise NotEvaluated(chosen.name, missing, known)
    found = []
    with PreviewWork(chosen, places, "") as work:
        for each in known:
            manifest = work.manifest(EVALUATION, each) if not wanted or each in wanted else None
            if manifest is not None:
                found.append(
                    PartitionReport(
                        evaluation=evaluation_of(chosen, manifest),
                        verdicts=stored_verdicts(work, each),
                        gates=chosen.settings.score_gates,
                    )
                )
    if not found:
        raise NotEvaluated(chosen.name, None, ())
    return found


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileUnwritable(path, error) from error


def _plain(name: str, reports: Sequence[PartitionReport], stops: Sequence[GateStop]) -> dict[str, Any]:
    newest = reports[0].evaluation
    return {
        "collection": name,
        "measured_at": newest.written_at,
        "scores": [asdict(score) for score in newest.of_corpus],
        "slices": [each.as_data() for each in newest.slices],
        "unknown": list(newest.unknown),
        "stopped": [_plain_stop(each) for each in stops],
        "partitions": [
            {
                "partition": report.evaluation.partition,
                "measured_at": report.evaluation.written_at,
                "scores": [asdict(score) for score in report.evaluation.scores if score.scope == "partition"],
                "cases": [asdict(case) for case in report.cases],
            }
            for report in reports
        ],
    }


def _plain_stop(found: GateStop) -> dict[str, Any]:
    return {
        "at": found.made_at,
        "partition": found.partition,
        "candidate": found.candidate,
        "digest": found.digest,
        "run_id": found.run_id,
        **found.shown_by,
        "verdict": found.judged.as_data(),
    }


def _show_stops(found: Sequence[GateStop]) -> None:
    if found:
        rows = [
            (each.made_at[:16], each.partition, (each.digest or each.candidate)[:12], each.judged.sentence)
            for each in found[:MOST_SHOWN]
        ]
        table("Stopped by a gate, the newest first", ("when", "partition", "candidate", "what was found"), rows)
    if len(found) > MOST_SHOWN:
        console.print(f"  and {len(found) - MOST_SHOWN} more (--json has all)")


def _show(name: str, reports: Sequence[PartitionReport]) -> None:
    newest = reports[0].evaluation
    columns = ("metric", "of", "value", "95 % interval", "golden items")
    title = f"{name}, as measured {newest.written_at[:16]} with {newest.partition}"
    table(title, columns, [score_row(score) for score in newest.of_corpus], ("value", "golden items"))
    if newest.slices:
        rows = [slice_row(each) for each in newest.slices]
        table("Slices, the worst first", ("slice", "right", "golden items"), rows, ("right", "golden items"))
    cases = [(report.evaluation.partition, case.outcome, case.ruling, case.sentence)
             for report in reports for case in report.cases]  # fmt: skip
    if cases:
        table("Gates and slices", ("partition", "outcome", "verdict", "what was found"), cases)
    else:
        console.print("No gate is declared.")
    if newest.unknown:
        console.print(f"{len(newest.unknown)} unknown to the source, and judged by nothing:")
        for line in newest.unknown[:MOST_SHOWN]:
            console.print(f"  {line}")
        if len(newest.unknown) > MOST_SHOWN:
            console.print(f"  and {len(newest.unknown) - MOST_SHOWN} more (--json has all)")
