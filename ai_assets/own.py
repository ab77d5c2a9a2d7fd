"""What a collection uses of the user's own: metrics, gates, checks, targets, embedder. Loaded and looked at once."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ai_assets.base.errors import ExtensionUnusable, Gathered
from ai_assets.base.extras import ExtraMissing
from ai_assets.base.kinds import CHECKS, CHECKS_VERSION
from ai_assets.base.yaml_settings import line_of, nearest
from ai_assets.checks.base import Check, OwnCheck
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.settings import CollectionSettings, EmbeddingSettings, GateSettings, place_of
from ai_assets.embedding.local import BACKENDS
from ai_assets.embedding.own import own_embedder
from ai_assets.embedding.spec import Embedding
from ai_assets.evaluation.metrics import BUILTIN, Metric, Of, of_function
from ai_assets.extensions import Kind, builtin, load, load_class
from ai_assets.local_models.errors import DimensionsDiffer, ModelUnusable
from ai_assets.source_digest import source_digest
from ai_assets.stages.hold_settings import HoldSettings
from ai_assets.targets.base import Target

if TYPE_CHECKING:
    from ai_assets.evaluation.gates import GateFunction

HoldRule = Callable[..., str | None]
"""Given a stage's row of a document, it says why the document is held, or None."""


@dataclass(frozen=True, kw_only=True)
class OwnTarget:
    """A target as a collection declares it; it is made when it is used, for making it may connect."""

    name: str
    use: str
    kind: type[Target]
    options: Mapping[str, Any]

    def make(self) -> Target:
        return self.kind(**self.options)


@dataclass(frozen=True, kw_only=True)
class OwnParts:
    """Empty for a collection that uses nothing but built-in parts."""

    metrics: tuple[Metric, ...] = ()
    gates: "Mapping[str, GateFunction]" = field(default_factory=dict)
    """By name of the gate."""
    checks: "tuple[OwnCheck, ...]" = ()
    targets: "tuple[OwnTarget, ...]" = ()
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    """By name of the embedding, what an embedder of the user's own makes."""
    gate_digests: Mapping[str, str] = field(default_factory=dict)
    """By name of the gate, of its source."""
    holds: "Mapping[str, HoldRule]" = field(default_factory=dict)
    """By stage, what holds its documents."""
    hold_digests: Mapping[str, str] = field(default_factory=dict)
    """The same, of its source."""


def load_own(settings: CollectionSettings, path: Path, node: yaml.Node | None) -> OwnParts:
    """Raises CollectionInvalid, with the line of each, for what cannot be loaded or does not fit."""
    loading, gathered = _Loading(settings, path, node), Gathered()
    metrics = [gathered.attempt(None, loading.metric, number) for number in range(len(settings.metrics))]
    own_gates = [(number, gate) for number, gate in enumerate(settings.gates) if isinstance(gate, GateSettings)]
    declared = {gate.name: (number, gate) for number, gate in own_gates if gate.use is not None}
    gates = {name: gathered.attempt(None, loading.gate, *found) for name, found in declared.items()}
    checks = [gathered.attempt(None, loading.check, number) for number in range(len(settings.checks))]
    targets = [gathered.attempt(None, loading.target, number) for number in range(len(settings.publish.to))]
    embeddings = {
        name: gathered.attempt(None, loading.embedding, name, each)
        for name, each in settings.every_embedding.items()
        if each.use or each.is_local
    }
    rules = {
        stage.name: gathered.attempt(None, loading.hold, number, stage.hold)
        for number, stage in enumerate(settings.stages)
        if stage.hold is not None and stage.hold.rule is not None
    }
    gathered.refuse(CollectionInvalid)
    holds = {name: function for name, function in rules.items() if function is not None}
    functions = {name: function for name, function in gates.items() if function is not None}
    return OwnParts(
        metrics=tuple(metric for metric in metrics if metric is not None),
        checks=tuple(check for check in checks if check is not None),
        targets=tuple(target for target in targets if target is not None),
        embeddings={name: each for name, each in embeddings.items() if each is not None},
        gates=functions,
        gate_digests={name: source_digest(function) for name, function in functions.items()},
        holds=holds,
        hold_digests={name: source_digest(function) for name, function in holds.items()},
    )


@dataclass(frozen=True)
class _Loading:
    settings: CollectionSettings
    path: Path
    node: yaml.Node | None

    def metric(self, number: int) -> Metric:
        declared = self.settings.metrics[number]
        is_ours = declared.use in CHECKS
        function = builtin(CHECKS[declared.use]) if is_ours else self._load("metric", declared.use, "metrics", number)
        of = of_function(function)
        if of is None or not callable(function):
            problem = "it is not marked with @metric (from ai_assets.evaluation import metric)"
            raise self._wrong(ExtensionUnusable("metric", declared.use, problem), "metrics", number)
        if of != "rows" and getattr(self.settings.golden, of) is None:
            problem = f"it scores golden {of}, and none are declared under 'golden'"
            raise self._wrong(ExtensionUnusable("metric", declared.use, problem), "metrics", number)
        if of != "rows" and declared.stage is not None:
            problem = f"it scores golden {of}; 'stage' is for a metric of rows"
            raise self._wrong(ExtensionUnusable("metric", declared.use, problem), "metrics", number, "stage")
        self._require_fits("metric", declared.use, function, 1, declared.options, "metrics", number)
        if is_ours and (unfit := self._uncheckable(declared.stage, declared.options.get("column"))) is not None:
            raise self._wrong(ExtensionUnusable("metric", declared.use, unfit), "metrics", number)
        return Metric(
            name=declared.name,
            of=of,
            function=function,
            use=declared.use,
            stage=declared.stage,
            options=declared.options,
            source_digest=CHECKS_VERSION if is_ours else source_digest(function),
        )

    def _uncheckable(self, name: str | None, column: str | None) -> str | None:
        """Why the outputs of a stage cannot be checked."""
        stage = next((each for each in self.settings.stages if each.name == name), None)
        if stage is None:
            return "it checks what a stage wrote; say under 'stage' which"
        wanted, columns = column or stage.columns.headline, stage.columns.dataset
        if columns.get(wanted) != "text":
            texts = [each for each, kind in columns.items() if kind == "text"]
            return f"stage '{name}' has no column '{wanted}' of text{nearest(wanted, texts)}"
        return None

    def gate(self, number: int, declared: GateSettings) -> "GateFunction":
        use = declared.use
        assert use is not None
        function = self._load("gate", use, "gates", number)
        if not getattr(function, "__ai_assets_gate__", False) or not callable(function):
            problem = "it is not marked with @gate (from ai_assets.evaluation import gate)"
            raise self._wrong(ExtensionUnusable("gate", use, problem), "gates", number, "use")
        self._require_fits("gate", use, function, 1, declared.options, "gates", number)
        return function

    def hold(self, number: int, declared: HoldSettings) -> HoldRule:
        assert declared.rule is not None
        at = ("stages", number, "hold", "rule")
        function = self._load("hold", declared.rule, *at)
        if not callable(function):
            raise self._wrong(ExtensionUnusable("hold", declared.rule, "it is no function of a row"), *at)
        self._require_fits("hold", declared.rule, function, 1, declared.options, *at)
        return function

    def check(self, number: int) -> OwnCheck:
        declared = self.settings.checks[number]
        found: Any = self._load("check", declared.use, "checks", number)
        inner: Check | None = None
        try:
            if isinstance(found, type) and issubclass(found, Check):
                inner = found(**declared.options)
            elif isinstance(found, Check):
                inner = found
        except Exception as error:
            problem = f"making it with its options failed: {type(error).__name__}: {error}"
            raise self._wrong(ExtensionUnusable("check", declared.use, problem), "checks", number) from error
        if inner is None:
            if not getattr(found, "__ai_assets_check__", False) or not callable(found):
                problem = "it is neither marked with @check nor a Check (from ai_assets.checks import check)"
                raise self._wrong(ExtensionUnusable("check", declared.use, problem), "checks", number)
            if declared.asset is None:
                problem = "say under 'asset' which asset it looks at"
                raise self._wrong(ExtensionUnusable("check", declared.use, problem), "checks", number)
            self._require_fits("check", declared.use, found, 2, declared.options, "checks", number)
        return OwnCheck(
            name=declared.name,
            use=declared.use,
            asset=declared.asset,
            blocking=declared.blocking,
            options=declared.options,
            source_digest=source_digest(found),
            function=found if inner is None else None,
            inner=inner,
        )

    def target(self, number: int) -> OwnTarget:
        declared, at = self.settings.publish.to[number], ("publish", "to", number)
        try:
            found: type[Target] = load_class("target", declared.use, Target, self.path)
        except ExtensionUnusable as error:
            raise self._wrong(error, *at) from error
        self._require_fits("target", declared.use, found, 0, declared.options, *at)
        return OwnTarget(name=declared.name, use=declared.use, kind=found, options=declared.options)

    def embedding(self, name: str, declared: EmbeddingSettings) -> Embedding:
        if declared.is_local:
            return self._local_embedding(name, declared)
        assert declared.use is not None
        try:
            return own_embedder(declared.use, declared.options, self.path).embedding
        except ExtensionUnusable as error:
            raise self._wrong(error, *place_of(name), "use") from error

    def _local_embedding(self, name: str, declared: EmbeddingSettings) -> Embedding:
        try:
            found = own_embedder(BACKENDS[declared.backend], declared.local_options, self.path).embedding
        except ExtraMissing as error:
            raise self._wrong(error, *place_of(name), "backend") from error
        except ModelUnusable as error:
            raise self._wrong(error, *place_of(name), "model") from error
        if declared.dimensions not in (None, found.dimensions):
            differ = DimensionsDiffer(found.model, found=found.dimensions, declared=declared.dimensions or 0)
            raise self._wrong(differ, *place_of(name), "dimensions")
        return found

    def _require_fits(
        self, kind: Kind, use: str, function: Callable[..., Any], given: int, options: Mapping[str, Any], *at: str | int
    ) -> None:
        """That it takes what it will be called with; a misspelt option is found now and not in the first run."""
        try:
            inspect.signature(function).bind(*[None] * given, **options)
        except TypeError as error:
            raise self._wrong(ExtensionUnusable(kind, use, f"its options: {error}"), *at) from error

    def _load(self, kind: Kind, use: str, *at: str | int) -> Callable[..., Any]:
        try:
            found: Any = load(kind, use, self.path)
        except ExtensionUnusable as error:
            raise self._wrong(error, *at) from error
        return found  # type: ignore[no-any-return]

    def _wrong(self, error: Exception, *at: str | int) -> CollectionInvalid:
        where = ".".join(str(part) for part in at)
        return CollectionInvalid(self.path, line_of(self.node, "attributes", *at), f"{where}: {error}")


def metrics_of(golden: Collection[Of], own: OwnParts) -> tuple[Metric, ...]:
    """The built-in ones for which there is golden data, then those of the user's own."""
    return (*(metric for metric in BUILTIN if metric.of in golden), *own.metrics)
