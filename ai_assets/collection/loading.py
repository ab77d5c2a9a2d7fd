"""Reading `collections/<name>/defs.yaml`: from text to a `Collection`, or to an error with the line of each mistake."""

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from ai_assets.base.collection_files import DEFS_FILE, collection_names
from ai_assets.base.errors import Gathered
from ai_assets.base.home import Home, project_directory
from ai_assets.base.tenants import Tenants, TenantUndeclared, load_tenants
from ai_assets.base.yaml_settings import line_of, located, nearest, read_yaml
from ai_assets.collection.adaptations import read_adaptations
from ai_assets.collection.contract import DeclaredContract
from ai_assets.collection.contract_reading import read_contract, require_kept
from ai_assets.collection.embeddings import DeclaredEmbedding, Models, declared_embeddings, embedded_texts
from ai_assets.collection.errors import CollectionInvalid, CollectionNameInvalid, CollectionNameTaken, CollectionUnknown
from ai_assets.collection.local_classifiers import read_local_classifiers
from ai_assets.collection.partitions import PartitionScheme
from ai_assets.collection.questions import Declared, read_embedding_models, read_function_models, read_questions
from ai_assets.collection.reranking import read_reranker
from ai_assets.collection.settings import OWN_TEXT, CollectionSettings, GateSettings
from ai_assets.collection.stage_windows import hours_by_asset, refuse_wrong_hours
from ai_assets.collection.steps import SegmentStep, refuse_unknown_gpus, steps_of
from ai_assets.collection.suite_columns import unknown_column
from ai_assets.documents.parse import MAX_CHARACTERS
from ai_assets.documents.passages import EmbeddedText
from ai_assets.embedding.searched_by import Reranker
from ai_assets.embedding.spec import Embedding
from ai_assets.evaluation.metrics import CALIBRATION, Metric, Of
from ai_assets.evaluation.ratings import Rating, read_ratings
from ai_assets.evaluation.scoring import (
    ECE,
    OF_LABELS,
    OF_QUERIES,
    GoldenLabel,
    GoldenQuery,
    read_golden_labels,
    read_golden_queries,
)
from ai_assets.evaluation.slices import stages_of
from ai_assets.extensions import look_in
from ai_assets.own import OwnParts, load_own, metrics_of
from ai_assets.policy.files import PolicySet
from ai_assets.policy.verdict import require_sound
from ai_assets.stages.base import MOST_TRIES, StageSettings
from ai_assets.stages.classify.adaptation import Adaptation
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function import absolute
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.judge import JudgeStage
from ai_assets.storage.digest import digest

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.stages.classify.local import LocalClassifier
    from ai_assets.stages.llm import Question

RESERVED_NAMES = frozenset({
    "context", "conf", "config", "meta", "arg_dict", "dict", "input_arg_dict", "output_arg_dict", "int", "str",
    "float", "bool", "input", "output", "type",
})  # fmt: skip
"""Dagster takes them for itself, like the keywords of Python."""
OWN_NAMES = frozenset({"costs"})
"""Folders of the lake, groups and jobs that belong to no collection."""
COMPONENT_TYPE = "ai_assets.DocumentCollection"


@dataclass(frozen=True)
class Collection:
    """One collection as declared: settings, golden data, and the code version of each of its assets."""

    name: str
    folder: Path
    settings: CollectionSettings
    golden_labels: tuple[GoldenLabel, ...] = ()
    """Without those that a prompt shows as examples: no document judges what it taught; and without retired ones."""
    golden_queries: tuple[GoldenQuery, ...] = ()
    """Without retired ones."""
    questions: "Mapping[str, Question]" = field(default_factory=dict)
    """What each stage with a route asks."""
    source_path: str = field(default="")
    """Where the documents are, absolute, or a URL."""
    embedding_models: Mapping[str, Models] = field(default_factory=dict)
    """By name of the embedding, of those that ask a model."""
    own: OwnParts = field(default_factory=OwnParts)
    """What it uses of the user's own."""
    signed_asset: str | None = None
    """The key of the asset of somebody's own whose rows these are; None for a collection of documents."""
    is_record: bool = False
    """Whether it is a signed asset as the home recorded it. Publication goes by the declaration in its own project."""

    adaptations: Mapping[str, Adaptation] = field(default_factory=dict)
    """By stage of the built-in classifier that declares one."""
    local_classifiers: "Mapping[str, LocalClassifier]" = field(default_factory=dict)
    """By stage, the model that is loaded here for it."""
    function_models: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """By stage that is a function, address and model of each endpoint that it may ask."""
    reranker: Reranker | None = None
    """The model that looks again at the best of what search finds."""
    ratings: Mapping[str, tuple[Rating, ...]] = field(default_factory=dict)
    """By judge, what people say of the outputs that it judges."""
    retired_in_files: Mapping[str, str] = field(default_factory=dict)
    """Documents and queries of the golden files that judge nothing any more, and why."""
    windowed: frozenset[str] = frozenset()
    """Assets that may have to wait for a window: their own, or that of an endpoint or a device."""
    canaries: tuple[str, ...] = ()
    """Endpoints whose model is watched, where the collection asks models."""
    contract: DeclaredContract | None = None
    """What readers of its releases are promised."""

    @cached_property
    def scheme(self) -> PartitionScheme:
        return PartitionScheme(self.name, self.settings.partitions)

    @cached_property
    def stages(self) -> tuple[StageSettings, ...]:
        return self.settings.ordered_stages()

    @cached_property
    def embeddings(self) -> tuple[DeclaredEmbedding, ...]:
        """The one that search uses, then the further ones."""
        return declared_embeddings(self.settings, self.embedding_models, self.own.embeddings)

    @property
    def policies(self) -> PolicySet:
        """As their files are now: what was approved under others is asked about again."""
        return PolicySet.of(self.folder, project_directory(self.folder))

    def embedding_of(self, asset: str) -> DeclaredEmbedding | None:
        """The embedding whose vectors an asset holds; None for other assets."""
        return next((each for each in self.embeddings if each.asset == asset), None)

    @property
    def spaces(self) -> Mapping[str, Embedding]:
        """By name, what the vectors of a passage are made by."""
        return {each.name: each.embedding for each in self.embeddings}

    @cached_property
    def functions(self) -> Mapping[str, list[Any]]:
        """By stage that is a function, all that decides its rows."""
        return {
            stage.name: [
                stage.spec.identity(self.folder),
                [list(model) for model in self.function_models.get(stage.name, ())],
                [stage.temperature, stage.seed, stage.max_output_tokens] if stage.models else None,
            ]
            for stage in self.stages
            if isinstance(stage, FunctionStage)
        }

    @property
    def labelling(self) -> tuple[ClassifyStage, ...]:
        """The stages that golden labels can judge."""
        return tuple(stage for stage in self.stages if isinstance(stage, ClassifyStage))

    @property
    def shown(self) -> frozenset[str]:
        """Documents that a prompt shows as examples."""
        return frozenset(item.document for question in self.questions.values() for item in question.examples)

    @property
    def asking(self) -> tuple[str, ...]:
        """The assets that ask models, and so may cost money."""
        return (*(each.asset for each in self.embeddings if each.models), *self.questions, *self.function_models)

    @property
    def asks_models(self) -> bool:
        """Whether something is computed on a route, where waiting takes longer than computing."""
        return bool(self.asking)

    def tries_of(self, asset: str) -> int:
        """How many runs in a row may ask about a document without a result, before it needs a person."""
        return next((stage.tries for stage in self.stages if stage.name == asset), MOST_TRIES)

    @property
    def judges_labels(self) -> bool:
        """Whether golden labels score a stage: there are some in the file, or people give them on the desk."""
        return bool(self.golden_labels) or self.settings.golden.review

    @property
    def judged_stage(self) -> ClassifyStage | None:
        """The stage that golden labels judge, or would: the declared one, else the only one that labels."""
        wanted = self.settings.golden.labels_stage
        found = [stage for stage in self.labelling if wanted in (None, stage.name)]
        return found[0] if len(found) == 1 else None

    @property
    def fits_search(self) -> bool:
        """Whether the weight of vectors in a search is fitted to golden queries."""
        return self.settings.builtins.search != "1" and bool(self.golden_queries)

    @cached_property
    def _search_described(self) -> list[Any]:
        """What decides how it is searched, but for weights that are fitted; nothing where that is as it always was."""
        found: list[Any] = [] if self.settings.builtins.search == "1" else [["search", self.settings.builtins.search]]
        return [*found, *([["rerank", *self.reranker.decides, self.reranker.weight]] if self.reranker else [])]

    @property
    def evaluates(self) -> bool:
        return bool(self.metrics or self.judges)

    @property
    def judges(self) -> tuple[JudgeStage, ...]:
        """The stages that rate what others made."""
        return tuple(stage for stage in self.stages if isinstance(stage, JudgeStage))

    @property
    def slices(self) -> tuple[str, ...]:
        """By what golden documents are divided."""
        return tuple(dict.fromkeys((*self._gate_slices, *self.settings.evaluation.slices)))

    @property
    def _gate_slices(self) -> tuple[str, ...]:
        return tuple(sorted({each for gate in self.settings.metric_gates for each in gate.slices}))

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """All that is scored, in order."""
        there: dict[Of, bool] = {"labels": self.judges_labels, "queries": bool(self.golden_queries)}
        found = metrics_of([of for of, is_there in there.items() if is_there], self.own)
        asks = there["labels"] and any(gate.metric == ECE for gate in self.settings.metric_gates)
        return (*found, CALIBRATION) if asks else found

    @cached_property
    def asset_names(self) -> tuple[str, ...]:
        """The assets of the segment, each after what it is made from."""
        evaluation = ("evaluation_scores",) if self.evaluates else ()
        stages, vectors = [stage.name for stage in self.stages], ["chunks", *self._vectors]
        middle = [*stages, *vectors] if self.embedded_stages else [*vectors, *stages]
        return ("documents", *middle, *evaluation, "release_candidate")

    @cached_property
    def steps(self) -> tuple[SegmentStep, ...]:
        """Of a run: what is computed in one process."""
        return steps_of(self)

    @property
    def _vectors(self) -> list[str]:
        return [each.asset for each in self.embeddings]

    @cached_property
    def embedded(self) -> tuple[EmbeddedText, ...]:
        """The texts of a document that are cut into passages, in order."""
        columns = {stage.name: stage.columns.headline for stage in self.stages}
        found = []
        for name in embedded_texts(self.settings):
            stage, _, column = name.partition(".")
            of_stage = None if name == OWN_TEXT else stage
            found.append(EmbeddedText(name, of_stage, OWN_TEXT if of_stage is None else column or columns[stage]))
        return tuple(found)

    @property
    def embedded_stages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text.stage for text in self.embedded if text.stage is not None))

    def inputs_of(self, asset: str) -> tuple[str, ...]:
        """The assets it is made from, within the collection."""
        stages = {stage.name: stage for stage in self.stages}
        match asset:
            case "documents":
                return ("source_files",)
            case "chunks":
                return ("documents", *self.embedded_stages)
            case _ if asset in self._vectors:
                return ("chunks",)
            case "evaluation_scores":
                scored = {metric.stage or "documents" for metric in self.metrics if metric.of == "rows"}
                judged = {stage.name for stage in self.labelling}
                judged |= stages_of(self.slices)
                judged |= {name for judge in self.judges for name in (judge.name, judge.judges)}
                return (
                    *(["documents"] if "documents" in scored or self.slices else []),
                    *self._vectors,
                    *(stage.name for stage in self.stages if stage.name in judged | scored),
                )
            case "release_candidate":
                return (*(name for name in self.asset_names if name != "release_candidate"),)
            case "published":
                return ("release_candidate", "sign_off")
            case _:
                corrected = ("corrections",) if isinstance(stages[asset], ClassifyStage) else ()
                return ("documents", *stages[asset].upstream, *corrected)

    @cached_property
    def code_versions(self) -> Mapping[str, str]:
        """Per asset, a digest of all that decides how its rows are computed: an edit makes just those stale."""
        settings, near = self.settings, self.settings.near_duplicates
        described: dict[str, Any] = {
            "documents": [
                "documents-1",
                settings.builtins.parser,
                {name: table.model_dump(mode="json") for name, table in settings.source.tables.items()},
                settings.source.max_bytes,
                settings.source.parse_timeout_s,
                *([["near_duplicates-1", near.at_least]] if near else []),
                *([["ocr", *ocr.languages]] if (ocr := settings.source.ocr) else []),
                *([characters] if (characters := settings.source.max_characters) != MAX_CHARACTERS else []),
            ],
            "chunks": [
                settings.builtins.chunker,
                settings.chunking.model_dump(mode="json"),
                *([list(embedded_texts(settings))] if self.embedded_stages else []),
            ],
            **{each.asset: each.described for each in self.embeddings},
            "evaluation_scores": [
                "evaluate-1",
                [[item.document, item.label] for item in self.golden_labels],
                [[item.query, sorted(item.documents)] for item in self.golden_queries],
                *([[metric.described for metric in self.own.metrics]] if self.own.metrics else []),
                *(["leaked-count"] if settings.golden.leaked == "count" else []),
                *(["ece-1"] if any(gate.metric == ECE for gate in settings.metric_gates) else []),
                *self._judges_described,
                *(
                    [["errors-1", list(self._gate_slices)]]
                    if any(gate.is_statistical for gate in settings.metric_gates)
                    else []
                ),
                *([["slices-1", list(declared)]] if (declared := settings.evaluation.slices) else []),
                *self._search_described,
            ],
            "release_candidate": [
                "candidate-2",
                [gate.described for gate in settings.gates],
                *([dict(self.own.gate_digests)] if self.own.gate_digests else []),
                *([["drift", settings.drift.model_dump(mode="json")]] if settings.drift else []),
                *self._holds_described,
                *self._search_described,
                *([["contract-1", promised.contract.digest, promised.on_break]] if (promised := self.contract) else []),
            ],
        }
        for stage in self.stages:
            described[stage.name] = self._described(stage)
        return {asset: digest(described[asset])[:16] for asset in self.asset_names}

    @property
    def holding(self) -> tuple[StageSettings, ...]:
        """The stages whose documents may have to wait for a person."""
        return tuple(stage for stage in self.stages if stage.hold is not None)

    @property
    def _judges_described(self) -> list[Any]:
        said = [[judge.name, sorted(_as_told(self.ratings.get(judge.name, ())))] for judge in self.judges]
        return [["judged-1", said]] if said else []

    @property
    def _holds_described(self) -> list[Any]:
        said = [[stage.name, stage.hold.described] for stage in self.holding if stage.hold is not None]
        return [["hold-1", said, dict(self.own.hold_digests)]] if said else []

    def _described(self, stage: StageSettings) -> list[Any]:
        if stage.name in self.questions:
            described = [self.questions[stage.name].identity, stage.described_when, list(stage.after)]
            near = self.settings.near_duplicates
            described += ["without-near-duplicates"] if near is not None and near.skip else []
            described += [stage.chooses] if stage.chooses else []
            return [*described, "corrected-1"] if isinstance(stage, ClassifyStage) else described
        if isinstance(stage, FunctionStage):
            return [self.functions[stage.name], stage.described_when, list(stage.upstream)]
        declared = stage.model_dump(mode="json", include={"name", "kind", "backend", "labels"})
        if (local := self.local_classifiers.get(stage.name)) is not None:
            names = [label["name"] for label in declared["labels"]]
            return ["classify-here-1", names, stage.described_when, stage.max_input_characters, local.described]
        for label in declared["labels"]:
            label.pop("output")  # the built-in classifier has none
        found = ["classify-3", self.settings.builtins.classifier, {**declared, "when": stage.described_when}]
        adaptation = self.adaptations.get(stage.name)
        return found if adaptation is None else [*found, ["adapted", adaptation.digest]]

    @cached_property
    def settings_digest(self) -> str:
        """One digest over all code versions and suites: a partition refreshed under another one is stale."""
        quality = {
            asset: [item.model_dump(mode="json") for item in suite] for asset, suite in self.settings.quality.items()
        }
        described: list[Any] = [dict(self.code_versions), quality]
        if self.own.checks:
            from ai_assets.checks.registry import described as checks_described

            described.append(checks_described(self.own.checks, self))
        return digest(described)[:16]


def _as_told(ratings: Sequence[Rating]) -> Iterator[list[str]]:
    """What of ratings decides scores."""
    return ([item.document, item.output, str(item.rating), item.author] for item in ratings)


def check_name(name: str) -> None:
    """It becomes a Dagster job, group and key; two underscores in a row divide it from what we add there."""
    if name in OWN_NAMES:
        raise CollectionNameTaken(name)
    known = re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) is not None
    if not known or "__" in name or name in RESERVED_NAMES or keyword.iskeyword(name):
        raise CollectionNameInvalid(name)


def load_collection(
    root: Path, name: str, inference: Declared | None = None, tenants: Tenants | None = None
) -> Collection:
    """The collection in `root/name`, checked as a whole; wrong input is a UserError that says where."""
    path = root / name / DEFS_FILE
    if "/" in name or name in ("", ".", "..") or not path.is_file():
        raise CollectionUnknown(name, collection_names(root), root)
    node, data = read_yaml(path, CollectionInvalid)
    if not isinstance(data, dict) or data.get("type") != COMPONENT_TYPE:
        raise CollectionInvalid(path, 1, f"expected 'type: {COMPONENT_TYPE}' and 'attributes:'")
    extra = [key for key in data if key not in ("type", "attributes", "requirements", "template_vars_module")]
    gathered = Gathered()
    for key in extra:
        problem = f"unknown key '{key}'{nearest(str(key), ['type', 'attributes'])}"
        gathered.errors.append(CollectionInvalid(path, line_of(node, key), problem))
    if extra and "attributes" not in data:  # it is misspelt, and empty attributes lack everything
        gathered.refuse(CollectionInvalid)
    settings = gathered.attempt(None, _settings, path, node, data.get("attributes"))
    gathered.refuse(CollectionInvalid)
    assert settings is not None
    return build_collection(name, path.parent, settings, path, node, inference, tenants)


def _settings(path: Path, node: yaml.Node | None, attributes: Any) -> CollectionSettings:
    try:
        return CollectionSettings.model_validate(beside(attributes, path.parent))
    except ValidationError as error:
        raise located(path, node, error, CollectionInvalid, under=("attributes",)) from error


def beside(attributes: Any, folder: Path) -> Any:
    """With `./file.py:name` of functions as paths that hold wherever they are read."""
    if not isinstance(attributes, Mapping):
        return {} if attributes is None else attributes
    stages = attributes.get("stages")
    if not isinstance(stages, Sequence) or isinstance(stages, str):
        return attributes
    if any(isinstance(stage, Mapping) and stage.get("kind") == "function" for stage in stages):
        look_in(project_directory(folder))
    found = [
        {**stage, "function": absolute(stage["function"], folder)}
        if isinstance(stage, Mapping) and isinstance(stage.get("function"), str)
        else stage
        for stage in stages
    ]
    return {**attributes, "stages": found}


def build_collection(
    name: str,
    folder: Path,
    settings: CollectionSettings,
    path: Path | None = None,
    node: yaml.Node | None = None,
    inference: Declared | None = None,
    tenants: Tenants | None = None,
) -> Collection:
    """Settings that are already valid, together with the files they name."""
    check_name(name)
    path = path or folder / DEFS_FILE
    gathered = Gathered()
    gathered.attempt(None, _require_tenant, name, settings, path, node, tenants)
    labels = gathered.attempt(None, _golden_labels, folder, settings, path, node)
    queries = gathered.attempt((), _golden_queries, folder, settings, path, node)
    ratings = gathered.attempt({}, _ratings, folder, settings, path, node)
    for number, query in _leaked(settings, queries):
        problem = f"example '{query}' is also a golden query; examples and golden data must not overlap"
        place = line_of(node, "attributes", "stages", number, "labels")
        gathered.errors.append(CollectionInvalid(path, place, problem))
    inference = inference or _declared_inference
    adaptations = gathered.attempt({}, read_adaptations, settings, folder, path, node)
    local_classifiers = gathered.attempt({}, read_local_classifiers, settings, path, node)
    questions = gathered.attempt({}, read_questions, settings, path, node, labels, inference)
    embedding_models = gathered.attempt({}, read_embedding_models, settings, path, node, inference)
    asking = gathered.attempt({}, read_function_models, settings, path, node, inference)
    own = gathered.attempt(OwnParts(), load_own, settings, path, node)
    reranker = gathered.attempt(None, read_reranker, settings.rerank, path, node, inference)
    contract = gathered.attempt(None, read_contract, name, settings, folder, path, node)
    gathered.attempt(None, refuse_unknown_gpus, settings, folder, path, node)
    gathered.attempt(None, require_sound, PolicySet.of(folder, project_directory(folder)))
    gathered.refuse(CollectionInvalid, first=path)
    hours = hours_by_asset(settings, inference)
    refuse_wrong_hours(settings, hours, path, node)
    shown = {item.document for question in questions.values() for item in question.examples}
    source = settings.source.path
    if "://" not in source:
        source = str((folder / source).resolve())
    judging = tuple(item for item in labels or () if item.document not in shown and item.retired is None)
    asked = tuple(item for item in queries if item.retired is None)
    retired = {item.document: item.retired for item in labels or () if item.retired is not None}
    retired |= {item.query: item.retired for item in queries if item.retired is not None}
    found = Collection(
        name, folder, settings, judging, asked, questions, source, embedding_models, own, function_models=asking,
        adaptations=adaptations, local_classifiers=local_classifiers, retired_in_files=retired,
        reranker=reranker,
        ratings=ratings,
        windowed=frozenset(asset for asset, (own_hours, ways) in hours.items() if own_hours or any(ways)),
        canaries=_canaries(inference()) if hours else (),
        contract=contract,
    )  # fmt: skip
    _require_golden_items(found, path, node)
    _require_fitting_checks(found, path, node)
    _require_fitting_suites(found, path, node)
    require_kept(found)
    return found


def _canaries(inference: "InferenceSettings") -> tuple[str, ...]:
    return tuple(name for name, endpoint in inference.endpoints.items() if endpoint.canary is not None)


def _require_tenant(
    name: str, settings: CollectionSettings, path: Path, node: yaml.Node | None, tenants: Tenants | None
) -> None:
    tenants = load_tenants(Home.from_environment().operations) if tenants is None else tenants
    try:
        tenants.require(settings.tenant, f"collection '{name}'")
    except TenantUndeclared as error:
        raise CollectionInvalid(path, line_of(node, "attributes", "tenant"), f"tenant: {error}") from error


def _golden_labels(
    folder: Path, settings: CollectionSettings, path: Path, node: yaml.Node | None
) -> tuple[GoldenLabel, ...]:
    if not settings.golden.labels:
        return ()
    file = _golden_file(folder, "labels", settings.golden.labels, path, node)
    judged = [stage for stage in settings.stages if isinstance(stage, ClassifyStage)]
    stage = next(stage for stage in judged if settings.golden.labels_stage in (None, stage.name))
    return read_golden_labels(file, [label.name for label in stage.labels])


def _golden_queries(
    folder: Path, settings: CollectionSettings, path: Path, node: yaml.Node | None
) -> tuple[GoldenQuery, ...]:
    if not settings.golden.queries:
        return ()
    return read_golden_queries(_golden_file(folder, "queries", settings.golden.queries, path, node))


def _ratings(
    folder: Path, settings: CollectionSettings, path: Path, node: yaml.Node | None
) -> Mapping[str, tuple[Rating, ...]]:
    """Of a judge whose file is not there yet, none: it is written when the first ratings are imported."""
    found = {}
    for number, stage in enumerate(settings.stages):
        if isinstance(stage, JudgeStage) and stage.ratings is not None:
            file = folder / stage.ratings
            if file.exists() and not file.is_file():
                line = line_of(node, "attributes", "stages", number, "ratings")
                raise CollectionInvalid(path, line, f"stages.{number}.ratings: {file} is not a file")
            found[stage.name] = read_ratings(file, stage.score_of, stage.words) if file.exists() else ()
    return found


def _golden_file(folder: Path, key: str, relative: str, path: Path, node: yaml.Node | None) -> Path:
    if not (folder / relative).is_file():
        line = line_of(node, "attributes", "golden", key)
        raise CollectionInvalid(path, line, f"golden {key} file {folder / relative} does not exist")
    return folder / relative


def _leaked(settings: CollectionSettings, queries: Sequence[GoldenQuery]) -> Iterator[tuple[int, str]]:
    """Golden queries that are examples of a label, with the number of the stage."""
    for number, item in enumerate(settings.stages):
        described = item.labels if isinstance(item, ClassifyStage) else ()
        examples = {example.strip().casefold() for label in described for example in label.examples}
        yield from ((number, query.query) for query in queries if query.query.strip().casefold() in examples)


def _require_golden_items(found: Collection, path: Path, node: yaml.Node | None) -> None:
    """A gate by golden data needs some that judges: it would never be made, and nothing would say so."""
    golden, gathered = found.settings.golden, Gathered()
    own = {metric.name: metric.of for metric in found.own.metrics}
    for number, gate in enumerate(found.settings.gates):
        if not isinstance(gate, GateSettings):
            continue
        of = "labels" if gate.metric in OF_LABELS else "queries" if gate.metric in OF_QUERIES else own.get(gate.metric)
        if (of == "labels" and not found.judges_labels) or (of == "queries" and not found.golden_queries):
            item, file = ("label", golden.labels) if of == "labels" else ("query", golden.queries)
            problem = f"the gate on {gate.metric} has nothing to judge by: {file} has no golden {item} that counts"
            gathered.errors.append(
                CollectionInvalid(path, line_of(node, "attributes", "gates", number), f"gates.{number}: {problem}")
            )
    gathered.refuse(CollectionInvalid)


def _require_fitting_checks(found: Collection, path: Path, node: yaml.Node | None) -> None:
    gathered = Gathered()
    for number, check in enumerate(found.own.checks):
        from ai_assets.checks.registry import problem_of

        if problem := problem_of(found, check):
            place = line_of(node, "attributes", "checks", number)
            gathered.errors.append(CollectionInvalid(path, place, f"checks.{number}: {problem}"))
    gathered.refuse(CollectionInvalid)


def _require_fitting_suites(found: Collection, path: Path, node: yaml.Node | None) -> None:
    gathered = Gathered()
    for asset, suite in found.settings.quality.items():
        for number, item in enumerate(suite):
            if problem := unknown_column(found, asset, item):
                place = line_of(node, "attributes", "quality", asset, number)
                gathered.errors.append(CollectionInvalid(path, place, f"quality.{asset}.{number}: {problem}"))
    gathered.refuse(CollectionInvalid)


def _declared_inference() -> "InferenceSettings":
    from ai_assets.inference.load import inference_at

    return inference_at(Home.from_environment())
