"""The documents that a stage applies to, with what earlier stages made of them."""

from collections.abc import Iterator, Mapping, Sequence

from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.run.context import Work
from ai_assets.run.datasets.documents import ok_rows
from ai_assets.stages.base import StageSettings
from ai_assets.stages.conditions import columns_in, holds
from ai_assets.storage.lake import Manifest


def admitted(
    work: Work,
    stage: StageSettings,
    documents: Manifest,
    earlier: Mapping[str, Manifest],
    columns: Sequence[str],
    *,
    conditions_only: bool = False,
) -> Iterator[tuple[Row, Mapping[str, Row | None]]]:
    """The documents that a stage takes and its conditions let through, in order, with their rows of earlier stages.

    Of these rows all columns, or only those that the conditions look at.
    """
    made = {each.name: each.columns for each in work.collection.stages}
    looked_at = {
        name: ["document_id", *sorted(columns_in(condition, made[name]))] for name, condition in stage.when.items()
    }
    upstream = {
        name: ByDocument(work.rows(manifest, looked_at.get(name, ["document_id"]) if conditions_only else None))
        for name, manifest in earlier.items()
    }
    for row in ok_rows(work, documents, columns):
        if not stage.draws(row["document_id"]):
            continue
        found = {name: rows.one(row["document_id"]) for name, rows in upstream.items()}
        if stage.judges is not None and found[stage.judges] is None:
            continue
        if all(holds(condition, found[name]) for name, condition in stage.when.items()):
            yield row, found


def count_admitted(work: Work, stage: StageSettings, documents: Manifest, earlier: Mapping[str, Manifest]) -> int:
    if not stage.when and stage.judges is None and not stage.chooses:
        return int(documents.stats["documents_out"])
    conditions = {name: earlier[name] for name in (*stage.when, *filter(None, [stage.judges]))}
    return sum(1 for _ in admitted(work, stage, documents, conditions, ["document_id"], conditions_only=True))
