"""Reading `collections/<name>/defs.yaml`: from text to a `Collection`, or to one sentence with file and line."""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ai_assets.errors import CollectionInvalid, CollectionNameInvalid, CollectionUnknown
from ai_assets.partitions import PartitionScheme
from ai_assets.settings import ClassifyStage, CollectionSettings, nearest
from ai_assets.stages.chunk import CHUNKER_VERSION
from ai_assets.stages.evaluate import GoldenLabel, GoldenQuery, read_golden_labels, read_golden_queries
from ai_assets.stages.parse import PARSER_VERSION
from resources.digest import digest

RESERVED_NAMES = frozenset({
    "context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict", "int", "str",
    "float", "bool", "input", "output", "type",
})  # fmt: skip
"""Dagster takes them for itself, like the keywords of Python."""
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
                settings.source.parse_timeout_s,
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
            described[stage.name] = ["classify-2", _classifier_version(), stage.model_dump(mode="json")]
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


def is_valid_name(name: str) -> bool:
    """It becomes a Dagster job, group and key; two underscores in a row divide it from what we add there."""
    known = re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) is not None
    return known and "__" not in name and name not in RESERVED_NAMES and not keyword.iskeyword(name)


def collection_names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"*/{DEFS_FILE}"))


def load_collection(root: Path, name: str) -> Collection:
    """The collection in `root/name`, checked as a whole; wrong input is a UserError that says where."""
    path = root / name / DEFS_FILE
    if "/" in name or name in ("", ".", "..") or not path.is_file():
        raise CollectionUnknown(name, collection_names(root), root)
    node, data = _read(path)
    if not isinstance(data, dict) or data.get("type") != COMPONENT_TYPE:
        raise CollectionInvalid(path, 1, f"expected 'type: {COMPONENT_TYPE}' and 'attributes:'")
    extra = [key for key in data if key not in ("type", "attributes", "requirements", "template_vars_module")]
    if extra:
        raise CollectionInvalid(
            path, _line(node, (extra[0],)), f"unknown key '{extra[0]}'{nearest(str(extra[0]), ['type', 'attributes'])}"
        )
    try:
        settings = CollectionSettings.model_validate({} if data.get("attributes") is None else data["attributes"])
    except ValidationError as error:
        raise _located(path, node, error) from error
    return build_collection(name, path.parent, settings, path, node)


def build_collection(
    name: str, folder: Path, settings: CollectionSettings, path: Path | None = None, node: yaml.Node | None = None
) -> Collection:
    """Settings that are already valid, together with the files they name."""
    if not is_valid_name(name):
        raise CollectionNameInvalid(name)
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


def _read(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file with and without the places of its parts."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated(path, node)
        return node, yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise CollectionInvalid(path, None, f"not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise CollectionInvalid(path, line, f"not valid YAML: {said}") from error
    except yaml.YAMLError as error:
        raise CollectionInvalid(path, None, f"not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise CollectionInvalid(path, None, "a part of it contains itself, or it is nested too deep") from error
    except OSError as error:
        raise CollectionInvalid(path, None, f"cannot be read: {error.strerror}") from error


def _refuse_repeated(path: Path, node: yaml.Node | None) -> None:
    """What the YAML reader lets pass: of two equal keys it keeps the last, and a date that is none has no line."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[object, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise CollectionInvalid(path, line, f"key '{key.value}' is here already, on line {seen[key.value]}")
                seen[key.value] = line
            _refuse_repeated(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(path, item)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:timestamp":
        try:
            yaml.SafeLoader("").construct_yaml_timestamp(node)
        except ValueError as error:
            raise CollectionInvalid(path, node.start_mark.line + 1, f"'{node.value}' is no date: {error}") from error


_SAYINGS = {
    "missing": "is missing",
    "literal_error": "should be {expected}",
    "string_type": "should be text",
    "string_too_short": "should have at least {min_length} characters",
    "string_too_long": "should have at most {max_length} characters",
    "too_short": "should have at least {min_length} items",
    "greater_than": "should be more than {gt:g}",
    "greater_than_equal": "should be at least {ge:g}",
    "less_than": "should be less than {lt:g}",
    "less_than_equal": "should be at most {le:g}",
    **dict.fromkeys(("tuple_type", "list_type"), "should be a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "should be keys with values"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "should be a date such as 2026-10-05",
    ),
    "string_pattern_mismatch": "has characters that cannot stand there; it must match {pattern}",
}
"""Pydantic's complaints in the words of whoever writes the file."""


def _located(path: Path, node: yaml.Node | None, error: ValidationError) -> CollectionInvalid:
    """The first problem, with its place; how many more there are is said at the end."""
    problems = error.errors(include_url=False)
    first = problems[0]
    echoes = [p for p in problems[1:] if p["type"] == "too_short" and p["loc"] == first["loc"][: len(p["loc"])]]
    context = first.get("ctx", {})
    location = (*(part for part in first["loc"] if part != "[key]"), *context.get("at", ()))
    if first["type"] == "unknown_key":
        line = _line(node, ("attributes", *location, context["key"]))
    else:
        line = _line(node, ("attributes", *location))
    where = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ")
    found = first["input"]
    shown = ""
    if first["type"] in _SAYINGS:
        message = _SAYINGS[first["type"]].format(**context)
        shown = f" (found {found!r})" if isinstance(found, str | int | float | bool) else ""
    others = len(problems) - 1 - len(echoes)
    more = f"; {others} more problem(s) in this file" if others else ""
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
