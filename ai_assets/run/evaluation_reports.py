"""Stored evaluations as other tools read them: JUnit XML for a check of a pull request, and a log of inspect_ai.

Documents are named and their texts are not written.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ai_assets.base.plural import plural
from ai_assets.base.printable import printable
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.figures import decimals
from ai_assets.evaluation.floors import slice_chances, slice_ruling
from ai_assets.evaluation.gates import Gate
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.verdict import GateVerdict, Ruling
from ai_assets.run.evaluated import Evaluation, JudgedDocument
from ai_assets.storage.digest import digest

INSPECT_VERSION = 2
"""Of the log format that inspect_ai reads and writes."""
Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class ReportCase:
    kind: Literal["gates", "slices"]
    name: str
    ruling: Ruling
    outcome: Outcome
    """What is undecided fails where that holds a candidate back, and is skipped where its gate says `warn`."""
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PartitionReport:
    """One partition, with the gates as they judge what is stored of it."""

    evaluation: Evaluation
    verdicts: Sequence[GateVerdict]
    gates: Sequence[Gate]
    """As declared."""

    @property
    def cases(self) -> list[ReportCase]:
        judged = [
            ReportCase(
                kind="gates",
                name=each.name,
                ruling=each.verdict,
                outcome=_outcome(each.verdict, holds=each.holds),
                sentence=each.sentence,
            )
            for each in self.verdicts
        ]
        return [*judged, *(case for gate in self.gates if gate.judge == "slices" for case in self._of_slices(gate))]

    def _of_slices(self, gate: Gate) -> Iterator[ReportCase]:
        found = [each for each in self.evaluation.slices if each.by in gate.slices]
        chances = slice_chances(gate, found)
        for each in found:
            ruling = slice_ruling(gate, each, chances.get(each.slice))
            sentence = f"{each.slice}: {decimals(each.value, gate.least)} (n = {each.n}); minimum {gate.least:g}"
            if ruling == "undecided":
                sentence += f"; it takes {plural(gate.slice_documents, 'document')} to tell"
            yield ReportCase(
                kind="slices",
                name=f"{gate.name}: {each.slice}",
                ruling=ruling,
                outcome=_outcome(ruling, holds=gate.undecided == "block"),
                sentence=sentence,
            )


def _outcome(ruling: Ruling, *, holds: bool) -> Outcome:
    if ruling == "undecided":
        return "failed" if holds else "skipped"
    return ruling


def junit(collection: str, reports: Sequence[PartitionReport]) -> str:
    every = [case for report in reports for case in report.cases]
    root = ET.Element("testsuites", {"name": f"ai-assets evaluate {collection}", **_counts(every)})
    for report in reports:
        name, cases = f"{collection}.{report.evaluation.partition}", report.cases
        suite = ET.SubElement(
            root, "testsuite", {"name": _text(name), **_counts(cases), "timestamp": report.evaluation.written_at[:19]}
        )
        properties = ET.SubElement(suite, "properties")
        for score in report.evaluation.of_corpus:
            if score.value is not None:
                ET.SubElement(properties, "property", {"name": _named(score), "value": f"{score.value:.6g}"})
        for case in cases:
            found = ET.SubElement(
                suite, "testcase", {"classname": _text(f"{name}.{case.kind}"), "name": _text(case.name), "time": "0"}
            )
            if case.outcome == "failed":
                ET.SubElement(found, "failure", {"type": case.ruling, "message": _text(case.sentence)})
            elif case.outcome == "skipped":
                ET.SubElement(found, "skipped", {"message": _text(case.sentence)})
            else:
                ET.SubElement(found, "system-out").text = _text(case.sentence)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(cases: Sequence[ReportCase]) -> dict[str, str]:
    failed, skipped = (sum(case.outcome == outcome for case in cases) for outcome in ("failed", "skipped"))
    return {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}


def _text(said: str) -> str:
    """XML has no place for control characters."""
    return printable(said)


def _named(score: Score) -> str:
    return f"{score.metric} of {score.stage}" if score.stage else score.metric


def inspect_log(collection: Collection, found: Evaluation) -> dict[str, Any]:
    """The newest evaluation as an `EvalLog`. Of right documents those are samples that the evaluation names."""
    samples = list(_samples(found))
    judged = max((each.n for each in found.of_corpus if each.stage == found.stage), default=0)
    stage = collection.judged_stage
    here = collection.local_classifiers.get(stage.name) if stage is not None else None
    model = f"route/{stage.route}" if stage is not None and stage.route else here.model if here else "builtin"
    task = f"{found.collection}/{found.stage or 'search'}"
    return {
        "version": INSPECT_VERSION,
        "status": "success",
        "eval": {
            "eval_id": digest([task, found.partition, found.written_at])[:22],
            "run_id": found.run_id,
            "created": found.written_at,
            "task": task,
            "task_id": digest([task])[:22],
            "dataset": {"name": found.collection, "samples": judged, "sample_ids": [each["id"] for each in samples]},
            "model": model,
            "config": {"epochs": 1},
            "metadata": {"partition": found.partition, "texts": "left out: a sample's input is its document's name"},
        },
        "results": {
            "total_samples": judged,
            "completed_samples": judged,
            "scores": [_score(each) for each in found.of_corpus if each.value is not None],
        },
        "stats": {"started_at": found.written_at, "completed_at": found.written_at},
        "samples": samples,
    }


def _score(score: Score) -> dict[str, Any]:
    metrics = {score.metric: {"name": score.metric, "value": score.value}}
    if score.interval is not None:
        for name, value in (("ci_low", score.interval.low), ("ci_high", score.interval.high)):
            metrics[name] = {"name": name, "value": value}
    metadata: dict[str, Any] = {"golden_items": score.n}
    if score.interval is not None:
        metadata["ci_level"] = score.interval.level
    return {"name": _named(score), "scorer": score.metric, "metrics": metrics, "metadata": metadata}


def _samples(found: Evaluation) -> Iterator[dict[str, Any]]:
    right = [
        JudgedDocument(document=name, golden=label, said=label)
        for label, names in found.agreed.items()
        for name in names
    ]
    for each in sorted([*found.mislabelled, *right], key=lambda one: one.document):
        value = "C" if each.said == each.golden else "I"
        scores = {"accuracy": {"value": value, "answer": each.said}}
        yield {"id": each.document, "epoch": 1, "input": each.document, "target": each.golden, "scores": scores}
