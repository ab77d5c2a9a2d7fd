"""The slices that the golden documents of a collection are in, read from what was computed of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ai_assets.documents.source_listing import source_of
from ai_assets.evaluation.slices import document_columns, slice_of_value, slices_of_document
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import intact
from ai_assets.storage.lake import parquet_columns


def slices_of(
    work: Work, by: Sequence[str], truth: Mapping[str, str], placed: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """By golden document, the slices that it is in. `placed`: the partitions of each."""
    found: dict[str, list[str]] = {}
    columns = [name.partition(".")[::2] for name in by if "." in name]
    tenant = work.collection.settings.tenant
    for partition in sorted({each for name in truth for each in placed.get(name, ())}):
        manifest = intact(work, "documents", partition)
        if manifest is None:
            continue
        said = _said_by_stages(work, partition, columns, truth)
        for row in work.rows(manifest, document_columns(by), truth):
            name = row["document_id"]
            if row["status"] == "ok":
                source = source_of(row["path"])
                of_document = slices_of_document(by, row, source=source, label=truth[name], tenant=tenant)
                found[name] = [*of_document, *said.get(name, ())]
    return found


def _said_by_stages(
    work: Work, partition: str, columns: Iterable[tuple[str, str]], wanted: Mapping[str, str]
) -> Mapping[str, Sequence[str]]:
    """Each once, where a function makes several rows of a document."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for stage, column in columns:
        manifest = intact(work, stage, partition)
        if manifest is None or column not in parquet_columns(work.stores.lake.path(manifest)):
            continue
        for row in work.rows(manifest, ["document_id", column], wanted):
            found[row["document_id"]].append(slice_of_value(stage, column, row[column]))
    return {name: list(dict.fromkeys(said)) for name, said in found.items()}
