"""The slices that golden documents are in: by language, source, length, label, tenant, or what a stage says of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ai_assets.documents.source_listing import source_of
from ai_assets.evaluation.floors import SliceScore
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import intact
from ai_assets.storage.lake import parquet_columns

LENGTHS = (500, 2_000, 8_000)
"""Characters at which the next band of lengths begins."""
MOST_VALUES = 40
"""Of one kind of slice, the largest; the documents of the others are in none."""
LONGEST_VALUE = 80


def slices_of(
    work: Work, by: Sequence[str], truth: Mapping[str, str], placed: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """By golden document, the slices that it is in. `placed`: the partitions of each."""
    found: dict[str, list[str]] = {}
    of_documents = [name for name in by if "." not in name]
    columns = [name.partition(".")[::2] for name in by if "." in name]
    for partition in sorted({each for name in truth for each in placed.get(name, ())}):
        manifest = intact(work, "documents", partition)
        if manifest is None:
            continue
        said = _said_by_stages(work, partition, columns, truth)
        wanted = ["document_id", "path", "status", "language", *(["text"] if "length" in by else [])]
        for row in work.rows(manifest, wanted):
            name = row["document_id"]
            if name not in truth or row["status"] != "ok":
                continue
            values = {
                "language": row["language"] or "unknown",
                "source": source_of(row["path"]),
                "length": length_band(len(row["text"])) if "length" in by else "",
                "label": truth[name],
                "tenant": work.collection.settings.tenant,
            }
            found[name] = [*(f"{each} {values[each]}" for each in of_documents), *said.get(name, ())]
    return found


def length_band(characters: int) -> str:
    for least, most in zip((0, *LENGTHS), LENGTHS, strict=False):
        if characters < most:
            return f"below {most:,}" if least == 0 else f"{least:,} to {most:,}"
    return f"{LENGTHS[-1]:,} and more"


def _said_by_stages(
    work: Work, partition: str, columns: Iterable[tuple[str, str]], wanted: Mapping[str, str]
) -> Mapping[str, Sequence[str]]:
    """Each once, where a function makes several rows of a document."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for stage, column in columns:
        manifest = intact(work, stage, partition)
        if manifest is None or column not in parquet_columns(work.stores.lake.path(manifest)):
            continue
        for row in work.rows(manifest, ["document_id", column]):
            if row["document_id"] in wanted:
                value = "none" if row[column] is None else " ".join(str(row[column]).split())[:LONGEST_VALUE] or "none"
                found[row["document_id"]].append(f"{stage}.{column} {value}")
    return {name: list(dict.fromkeys(said)) for name, said in found.items()}


def scored_slices(within: Mapping[str, Sequence[str]], right: Mapping[str, bool]) -> list[SliceScore]:
    """The worst first."""
    number: Counter[str] = Counter(each for slices in within.values() for each in slices)
    hits: Counter[str] = Counter(each for name, slices in within.items() if right[name] for each in slices)
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for each, _ in sorted(number.items(), key=lambda item: (-item[1], item[0])):
        kinds[each.partition(" ")[0]].append(each)
    kept = [each for values in kinds.values() for each in values[:MOST_VALUES]]
    found = [SliceScore(slice=each, right=hits[each], n=number[each]) for each in kept]
    return sorted(found, key=lambda each: (each.value, each.slice))
