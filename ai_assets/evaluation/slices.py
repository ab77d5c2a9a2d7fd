"""What a slice of golden documents is: what it may be by, in which slices a document is, and how each one is scored.

For `evaluation.slices` and for gates alike. Pure: what a stage said of a document is given.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeAlias

from ai_assets.base.yaml_settings import nearest

SliceBy: TypeAlias = Literal["language", "source"]
"""What documents without a golden label have, too."""
SLICED_BY = ("language", "source", "length", "label", "tenant")
"""Of the document; beside these, a column of a stage as `STAGE.COLUMN`."""
LENGTHS = (500, 2_000, 8_000)
"""Characters at which the next band of lengths begins."""
MOST_VALUES = 40
"""Of one kind of slice, the largest; the documents of the others are in none."""
LONGEST_VALUE = 80


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """Golden documents that have something in common."""

    slice: str
    """Such as `language de`."""
    right: int
    n: int

    @property
    def value(self) -> float:
        return self.right / self.n

    @property
    def by(self) -> str:
        return by_of(self.slice)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


def by_of(name: str) -> str:
    """Of `language de`, `language`."""
    return name.partition(" ")[0]


def stages_of(by: Iterable[str]) -> set[str]:
    """Whose columns they are by."""
    return {each.partition(".")[0] for each in by if "." in each}


def wrong_slice(by: str, columns: Mapping[str, Mapping[str, str]]) -> str | None:
    """Why nothing can be divided by it; `columns`: by stage, what each column holds."""
    stage, _, column = by.partition(".")
    if not column:
        known = nearest(by, list(SLICED_BY))
        return None if by in SLICED_BY else f"unknown slice '{by}'{known}; it is one of these, or STAGE.COLUMN"
    if stage not in columns:
        return f"unknown stage '{stage}'{nearest(stage, list(columns))}"
    if column not in columns[stage]:
        return f"stage '{stage}' has no column '{column}'{nearest(column, list(columns[stage]))}"
    if columns[stage][column] == "number":
        return f"'{by}' is a number, and has no slices; name a column of few values"
    return None


def document_columns(by: Sequence[str]) -> list[str]:
    """What has to be read of a document to say in which slices it is."""
    return ["document_id", "path", "status", "language", *(["text"] if "length" in by else [])]


def slices_of_document(by: Iterable[str], row: Mapping[str, Any], *, source: str, label: str, tenant: str) -> list[str]:
    """But for those by what a stage said."""
    found = []
    for each in by:
        match each:
            case "language":
                value = row["language"] or "unknown"
            case "source":
                value = source
            case "length":
                value = length_band(len(row["text"]))
            case "label":
                value = label
            case "tenant":
                value = tenant
            case _:
                continue
        found.append(f"{each} {value}")
    return found


def slice_of_value(stage: str, column: str, value: object) -> str:
    said = "none" if value is None else " ".join(str(value).split())[:LONGEST_VALUE] or "none"
    return f"{stage}.{column} {said}"


def length_band(characters: int) -> str:
    for least, most in zip((0, *LENGTHS), LENGTHS, strict=False):
        if characters < most:
            return f"below {most:,}" if least == 0 else f"{least:,} to {most:,}"
    return f"{LENGTHS[-1]:,} and more"


def documents_by_slice(within: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The largest first; of each kind as many as are kept."""
    documents: defaultdict[str, list[str]] = defaultdict(list)
    for name, slices in within.items():
        for each in slices:
            documents[each].append(name)
    kept: dict[str, list[str]] = {}
    number: Counter[str] = Counter()
    for each, names in sorted(documents.items(), key=lambda item: (-len(item[1]), item[0])):
        number[by_of(each)] += 1
        if number[by_of(each)] <= MOST_VALUES:
            kept[each] = names
    return kept


def scored_slices(within: Mapping[str, Sequence[str]], right: Mapping[str, bool]) -> list[SliceScore]:
    """The worst first."""
    found = [
        SliceScore(slice=each, right=sum(right[name] for name in names), n=len(names))
        for each, names in documents_by_slice(within).items()
    ]
    return sorted(found, key=lambda each: (each.value, each.slice))
