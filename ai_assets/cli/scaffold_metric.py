"""`ai-assets scaffold metric`: the file of a metric, its test, and its entry in a collection's `defs.yaml`."""

import keyword
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.output import collection as collection_named
from ai_assets.cli.output import console, home
from ai_assets.cli.scaffold_entry import write_declared
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.scoring import BUILTIN_METRICS

Of = Literal["labels", "queries", "rows"]


@dataclass(frozen=True, kw_only=True)
class _Template:
    metric: str
    test: str
    scores: str


_LABELS = _Template(
    scores="golden labels",
    metric='''    """The share of the golden documents that the model gave their label."""
    right = sum(item.predicted == item.golden for item in evidence.labels)
    return Measure(value=right / len(evidence.labels) if evidence.labels else None, n=len(evidence.labels))
''',
    test="""def test_{name}_of_a_right_and_a_missing_label() -> None:
    labels = (
        LabelEvidence(document="a", golden="x", predicted="x"),
        LabelEvidence(document="b", golden="x", predicted=None),
    )
    found = {name}(Evidence(collection="{collection}", partition=None, labels=labels))
    assert (found.value, found.n) == (0.5, 2)
""",
)
_QUERIES = _Template(
    scores="golden queries",
    metric='''    """The share of the golden queries for which the first document found is a relevant one."""
    first = sum(bool(set(item.found[:1]) & set(item.relevant)) for item in evidence.queries)
    return Measure(value=first / len(evidence.queries) if evidence.queries else None, n=len(evidence.queries))
''',
    test="""def test_{name}_of_a_query_that_finds_and_one_that_does_not() -> None:
    queries = (
        QueryEvidence(query="pump", relevant=("a",), found=("a", "b")),
        QueryEvidence(query="fire", relevant=("b",), found=("a", "b")),
    )
    found = {name}(Evidence(collection="{collection}", partition=None, queries=queries))
    assert (found.value, found.n) == (0.5, 2)
""",
)
_ROWS = _Template(
    scores="the rows of documents",
    metric='''    """The share of a partition's documents whose text has at least 20 characters."""
    lengths = [len(row["text"] or "") for row in evidence.rows(["text"])]
    long = sum(length >= 20 for length in lengths)
    return Measure(value=long / len(lengths) if lengths else None, n=len(lengths))
''',
    test="""def test_{name}_of_a_long_and_a_short_text() -> None:
    def rows(_columns: Sequence[str] | None = None) -> Iterator[Mapping[str, object]]:
        return iter([{{"text": "The pump in hall 7 leaks."}}, {{"text": "x"}}])

    found = {name}(Evidence(collection="{collection}", partition="p", rows=rows))
    assert (found.value, found.n) == (0.5, 2)
""",
)
_TEMPLATES: dict[Of, _Template] = {"labels": _LABELS, "queries": _QUERIES, "rows": _ROWS}
_METRIC = '''"""The metric `{name}`. What it may look at: docs/extending.md of ai-assets."""

from ai_assets.evaluation import Evidence, Measure, metric


@metric(of="{of}")
def {name}(evidence: Evidence) -> Measure:
{body}'''
_TEST = '''"""The metric `{name}` by hand. Run it with: python -m pytest tests/test_{module}.py"""

{imports}from ai_assets.evaluation import {records}
from {module} import {name}


{body}'''


def scaffold_metric(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the metric, and of its function.")],
    collection: Annotated[str, typer.Option("--collection", help="The collection that uses it.")],
) -> None:
    """Write a metric of one's own with its test, and declare it in the collection's defs.yaml."""
    chosen, project = collection_named(collection), home().project
    made = write_metric(name, chosen, project)
    console.print(f"Wrote {made.metric}, {made.test} and an entry in {made.declared}.")
    console.print(f"It scores {made.scores}. Edit it, then:  ai-assets run {collection}")


@dataclass(frozen=True, kw_only=True)
class ScaffoldedMetric:
    metric: Path
    test: Path
    declared: Path
    scores: str


def write_metric(name: str, collection: Collection, project: Path) -> ScaffoldedMetric:
    """All three, or none of them: a file that is there is never written over."""
    if not name.isidentifier() or keyword.iskeyword(name) or name in BUILTIN_METRICS:
        raise ScaffoldRefused(name, "it must be a name of Python that no built-in metric has, such as 'found_share'")
    if name in {metric.name for metric in collection.metrics}:
        raise ScaffoldRefused(name, f"{collection.name} has a metric of that name")
    of: Of = "labels" if collection.golden_labels else "queries" if collection.golden_queries else "rows"
    module, template = f"{name}_metric", _TEMPLATES[of]
    metric, test = project / f"{module}.py", project / "tests" / f"test_{module}.py"
    records = {"labels": "Evidence, LabelEvidence", "queries": "Evidence, QueryEvidence", "rows": "Evidence"}[of]
    imports = "from collections.abc import Iterator, Mapping, Sequence\n\n" if of == "rows" else ""
    body = template.test.format(name=name, collection=collection.name)
    files = {
        metric: _METRIC.format(name=name, of=of, body=template.metric),
        test: _TEST.format(name=name, module=module, imports=imports, records=records, body=body),
    }
    declared = write_declared(name, collection, files, f'"{module}:{name}"', under="metrics")
    return ScaffoldedMetric(metric=metric, test=test, declared=declared, scores=template.scores)
