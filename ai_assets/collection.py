"""Reading `collections/<name>/defs.yaml`: from text to a `Collection`, or to one sentence with file and line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ai_assets.errors import CollectionInvalid, CollectionUnknown
from ai_assets.partitions import PartitionScheme
from ai_assets.settings import ClassifyStage, CollectionSettings
from ai_assets.stages.chunk import CHUNKER_VERSION
from ai_assets.stages.evaluate import GoldenLabel, GoldenQuery, read_golden_labels, read_golden_queries
from ai_assets.stages.parse import PARSER_VERSION
from resources.digest import digest

COMPONENT_TYPE = "ai_assets.DocumentCollection"
DEFS_FILE = "defs.yaml"


@dataclass(frozen=True)
class Collection:
    """One collection as declared: settings, golden data, and the code version of each of its assets."""

    name: str
    folder: Path
    settings: CollectionSettings
    golden_labels: tuple[GoldenLabel, ...] = ()
    golden_queries: tuple[GoldenQuery, ...] = ()
    source_path: str = field(default="")
    """Where the documents are, absolute, or a URL."""

    @cached_property
    def scheme(self) -> PartitionScheme:
        return PartitionScheme(self.name, self.settings.partitions)

    @cached_property
    def stages(self) -> tuple[ClassifyStage, ...]:
        return self.settings.ordered_stages()

    @property
    def evaluates(self) -> bool:
        return bool(self.golden_labels or self.golden_queries)

    @cached_property
    def asset_names(self) -> tuple[str, ...]:
        """The assets of the segment, each after what it is made from."""
        evaluation = ("evaluation_scores",) if self.evaluates else ()
        return ("documents", "chunks", "embeddings", *(s.name for s in self.stages), *evaluation, "release_candidate")

    def inputs_of(self, asset: str) -> tuple[str, ...]:
        """The assets it is made from, within the collection."""
        stages = {stage.name: stage for stage in self.stages}
        match asset:
            case "documents":
                return ("source_files",)
            case "chunks":
                return ("documents",)
            case "embeddings":
                return ("chunks",)
            case "evaluation_scores":
                return ("embeddings", *stages)
            case "release_candidate":
                return (*(name for name in self.asset_names if name != "release_candidate"),)
            case "published":
                return ("release_candidate", "sign_off")
            case _:
                return ("documents", *stages[asset].when)

    @cached_property
    def code_versions(self) -> Mapping[str, str]:
        """Per asset, a digest of all that decides how its rows are computed: an edit makes just those stale."""
        settings = self.settings
        described: dict[str, Any] = {
            "documents": [
                "documents-1",
                PARSER_VERSION,
                {name: table.model_dump(mode="json") for name, table in settings.source.tables.items()},
                settings.source.max_bytes,
            ],
            "chunks": [CHUNKER_VERSION, settings.chunking.model_dump(mode="json")],
            "embeddings": [settings.embedding.model_dump(mode="json"), _embedder_version()],
            "evaluation_scores": [
                "evaluate-1",
                [[item.document, item.label] for item in self.golden_labels],
                [[item.query, sorted(item.documents)] for item in self.golden_queries],
            ],
            "release_candidate": ["candidate-1", [gate.model_dump(mode="json") for gate in settings.gates]],
        }
        for stage in self.stages:
            described[stage.name] = ["classify-1", _classifier_version(), stage.model_dump(mode="json")]
        return {asset: digest(described[asset])[:16] for asset in self.asset_names}

    @cached_property
    def settings_digest(self) -> str:
        """One digest over all code versions and suites: a partition refreshed under another one is stale."""
        quality = {
            asset: [item.model_dump(mode="json") for item in suite] for asset, suite in self.settings.quality.items()
        }
        return digest([dict(self.code_versions), quality])[:16]


def _embedder_version() -> str:
    from resources.backends.builtin import BuiltinEmbedder

    return BuiltinEmbedder().version


def _classifier_version() -> str:
    from ai_assets.stages.classify import ALGORITHM_VERSION

    return ALGORITHM_VERSION


def collection_names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"*/{DEFS_FILE}"))


def load_collection(root: Path, name: str) -> Collection:
    """The collection in `root/name`, checked as a whole; wrong input is a UserError that says where."""
    path = root / name / DEFS_FILE
    if "/" in name or name in ("", ".", "..") or not path.is_file():
        raise CollectionUnknown(name, collection_names(root), root)
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise CollectionInvalid(path, None, f"not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise CollectionInvalid(path, line, f"not valid YAML: {error.problem}") from error
    if not isinstance(data, dict) or data.get("type") != COMPONENT_TYPE:
        raise CollectionInvalid(path, 1, f"expected 'type: {COMPONENT_TYPE}' and 'attributes:'")
    extra = [key for key in data if key not in ("type", "attributes", "requirements", "template_vars_module")]
    if extra:
        raise CollectionInvalid(
            path, _line(node, (extra[0],)), f"unknown key '{extra[0]}'; known here: type, attributes"
        )
    try:
        settings = CollectionSettings.model_validate(data.get("attributes") or {})
    except ValidationError as error:
        raise _located(path, node, error) from error
    return build_collection(name, path.parent, settings, path, node)


def build_collection(
    name: str, folder: Path, settings: CollectionSettings, path: Path | None = None, node: yaml.Node | None = None
) -> Collection:
    """Settings that are already valid, together with the files they name."""
    path = path or folder / DEFS_FILE
    labels: tuple[GoldenLabel, ...] = ()
    queries: tuple[GoldenQuery, ...] = ()
    for key, relative in (("labels", settings.golden.labels), ("queries", settings.golden.queries)):
        if relative is not None and not (folder / relative).is_file():
            line = _line(node, ("attributes", "golden", key))
            raise CollectionInvalid(path, line, f"golden {key} file {folder / relative} does not exist")
    if settings.golden.labels:
        stage = next(s for s in settings.stages if settings.golden.labels_stage in (None, s.name))
        labels = read_golden_labels(folder / settings.golden.labels, [label.name for label in stage.labels])
    if settings.golden.queries:
        queries = read_golden_queries(folder / settings.golden.queries)
    for number, stage in enumerate(settings.stages):
        leaked = {example.strip().casefold() for label in stage.labels for example in label.examples}
        for query in queries:
            if query.query.strip().casefold() in leaked:
                where = _line(node, ("attributes", "stages", number, "labels"))
                raise CollectionInvalid(
                    path,
                    where,
                    f"example '{query.query}' is also a golden query; examples and golden data must not overlap",
                )
    source = settings.source.path
    if "://" not in source:
        source = str((folder / source).resolve())
    return Collection(name, folder, settings, labels, queries, source)


def _located(path: Path, node: yaml.Node | None, error: ValidationError) -> CollectionInvalid:
    """The first problem, with its place; how many more there are is said at the end."""
    problems = error.errors(include_url=False)
    first = problems[0]
    location = tuple(part for part in first["loc"] if part != "[key]")
    if first["type"] == "unknown_key":
        line = _line(node, ("attributes", *location, first["ctx"]["key"]))
    else:
        line = _line(node, ("attributes", *location))
    where = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "is missing"
    found = first["input"]
    shown = (
        f" (found {found!r})" if isinstance(found, str | int | float | bool) and first["type"] != "unknown_key" else ""
    )
    more = f"; {len(problems) - 1} more problem(s) in this file" if len(problems) > 1 else ""
    return CollectionInvalid(path, line, f"{f'{where}: ' if where else ''}{message}{shown}{more}")


def _line(node: yaml.Node | None, location: tuple[str | int, ...]) -> int | None:
    """The line of the deepest part of the location that the file has."""
    if node is None:
        return None
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
