"""Which golden documents and queries a stage is shown, and where: in its prompt, its examples, or what it learns."""

from collections.abc import Iterator, Mapping, Sequence

from ai_assets.evaluation.leaks import Leak, ShownText, ShownTexts, leaks, prompt_text
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import intact
from ai_assets.run.datasets.few_shot import lessons, read_documents
from ai_assets.stages.classify.kind import ClassifyStage


def leaked_labels(work: Work, stage: ClassifyStage, partitions: Mapping[str, Sequence[str]]) -> Sequence[Leak]:
    """Of golden documents, by the partitions they may be in; what is shown under its own name is left out already."""
    shown = ShownTexts([*_prompts(work, [stage.name]), *_examples_of_labels([stage]), *_documents(work, stage)])
    return leaks("label", dict(_texts(work, partitions)), shown) if shown else ()


def leaked_queries(work: Work, queries: Sequence[str]) -> Sequence[Leak]:
    """A query stands in the prompt of any stage."""
    shown = ShownTexts(
        [*_prompts(work, list(work.collection.questions)), *_examples_of_labels(work.collection.labelling)]
    )
    return leaks("query", {query: query for query in queries}, shown) if shown else ()


def _prompts(work: Work, stages: Sequence[str]) -> Iterator[ShownText]:
    for name in stages:
        if (question := work.collection.questions.get(name)) is not None:
            where = f"the prompt {question.prompt.path.name} of {name}"
            for template in (question.prompt.system, question.prompt.user):
                yield ShownText(where=where, text=prompt_text(template))


def _examples_of_labels(stages: Sequence[ClassifyStage]) -> Iterator[ShownText]:
    for stage in stages:
        for label in stage.labels:
            for text in (label.description, *label.examples):
                yield ShownText(where=f"the label '{label.name}' of {stage.name}", text=text)


def _documents(work: Work, stage: ClassifyStage) -> Iterator[ShownText]:
    question = work.collection.questions.get(stage.name)
    named = [item.document for item in question.examples] if question is not None else []
    for name, found in read_documents(work, named).items():
        if found.status == "ok":
            yield ShownText(where=f"the example {name} of {stage.name}", text=found.text)
    for learned in lessons(work, stage):
        yield ShownText(
            where=f"the corrected document {learned.document} that {stage.name} learns from", text=learned.text
        )


def _texts(work: Work, wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for partition in sorted({each for places in wanted.values() for each in places}):
        manifest = intact(work, "documents", partition)
        for row in work.rows(manifest, ["document_id", "status", "text"]) if manifest else ():
            if row["document_id"] in wanted and row["status"] == "ok":
                yield row["document_id"], row["text"]
