"""The bench a run works at: one collection, its stores, and what is loaded once per run and used by every dataset."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.errors import ExtensionUnusable, UserError
from ai_assets.base.extras import ExtraMissing
from ai_assets.base.machine import usable_cores
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.documents.parse import Parser
from ai_assets.documents.source import Source
from ai_assets.documents.source_listing import Listing, limits_of, observe
from ai_assets.embedding.spec import Embedding
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.run.baton import Baton
from ai_assets.run.errors import ContractUndeclarable, EmbedderLost, InputMissing, RunStopped
from ai_assets.run.events import Advanced, CallsMade, Said, Waiting
from ai_assets.run.sinks import Sinks
from ai_assets.signoff import forgotten
from ai_assets.signoff.forgotten import Register
from ai_assets.signoff.launches import Launch
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.lake import Manifest, RowWriter, writing_rows
from ai_assets.storage.leases import Lease
from ai_assets.storage.spool import Spool
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import pyarrow as pa

    from ai_assets.embedding.builtin import BuiltinEmbedder
    from ai_assets.embedding.on_device import DeviceEmbedder
    from ai_assets.embedding.own import OwnEmbedder
    from ai_assets.embedding.route import RouteEmbedder
    from ai_assets.embedding.searched_by import SearchedBy
    from ai_assets.evaluation.verdict import GateVerdict
    from ai_assets.inference.batch.asking import BatchAsker
    from ai_assets.inference.budget_status import AccountStatus
    from ai_assets.inference.by_deadline import DeadlineAsker
    from ai_assets.inference.call_listener import CallListener
    from ai_assets.inference.engine import Engine
    from ai_assets.inference.live_spend import LiveSpend
    from ai_assets.inference.records import Caller, Priority
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.local_models.host import LocalModels
    from ai_assets.run.certificates import RunCertificate
    from ai_assets.run.datasets.evaluation_scores import CorpusEvaluation
    from ai_assets.run.datasets.few_shot import FewShotExample
    from ai_assets.run.text_process import TextWork
    from ai_assets.signoff.canaries import CanaryFinding
    from ai_assets.signoff.contracts import PublishedContracts
    from ai_assets.signoff.corrections import Corrections
    from ai_assets.signoff.drifting import DriftBench
    from ai_assets.signoff.fitted_searches import FittedWeight
    from ai_assets.signoff.frozen_candidate import FrozenCandidate
    from ai_assets.signoff.golden_labels import AgreedLabel, GoldenInForce
    from ai_assets.signoff.holds import HoldDecisions
    from ai_assets.stages.classify.builtin import BuiltinClassifier
    from ai_assets.stages.classify.first_version import FirstClassifier
    from ai_assets.telemetry.trace_context import TraceContext

LOOKED_AT = ("corrections", "golden_labels", "hold_decisions", "fitted_weights", "forgotten")
ADVANCE_S = 0.05
"""An asset of a partition says no more often how far it is."""
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one asset of one partition."""

    manifest: Manifest
    documents_in: int = 0
    documents_out: int = 0
    reused: int = 0
    computed: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    cost_usd: float = 0.0
    unchanged: bool = False
    """Nothing it depends on had changed, so nothing was read or computed."""
    request_id: str | None = None
    """Of a candidate: the newest request for its sign-off."""
    budget: "AccountStatus | None" = None
    """Of an asset that asks models: where the budget stands that has least left for its next call."""


@dataclass
class Work:
    """Opened for one run; closes what it opened."""

    collection: Collection
    stores: Stores
    run_id: str
    sinks: Sinks = field(default_factory=Sinks)
    """Who hears of the run."""
    launch: Launch = field(default_factory=Launch)
    """Who started the run, as far as it is proved."""
    backfill: str = ""
    """The backfill that the run belongs to, whose money its calls may use."""
    priority: "Priority | None" = None
    """Of its calls that have none of their own."""
    halvings: int = 0
    """How often the batch is halved, for want of memory (`step_memory.py`)."""
    workers: int | None = None
    """How many processes compute partitions, this one included; None for as many as pay."""
    cores: int = field(default_factory=usable_cores)
    """Those that this process may use beside others of the run."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set where the run is interrupted: what is under way in other threads ends when it next says how far it is."""
    call_listener: "CallListener | None" = None
    """Hears of each call to a model, such as for traces."""
    trace: "TraceContext | None" = None
    """The span of the run, for its further processes."""
    patient: bool = False
    """Documents without a result are asked about only when that is due; a run that a person names asks at once."""
    classifiers: "dict[str, BuiltinClassifier | FirstClassifier]" = field(default_factory=dict)
    """One per stage, made when the first document needs it."""
    lessons: "dict[str, Sequence[FewShotExample]]" = field(default_factory=dict)
    """By stage, the documents it learns from, read when the first is needed."""
    certificates: "dict[str, RunCertificate]" = field(default_factory=dict)
    """By stage, the threshold that its labels show to be enough, found when the first candidate needs it."""
    lease: threading.local = field(default_factory=threading.local)
    """What the current thread holds while it writes."""
    baton: Baton | None = None
    """Where several partitions are under way at once: who holds it computes, and passes it on while it waits."""
    _closing: ExitStack = field(default_factory=ExitStack)
    _making: threading.Lock = field(default_factory=threading.Lock)
    _own_embedders: "dict[tuple[str, int, str | None], OwnEmbedder]" = field(default_factory=dict)
    _advanced: dict[tuple[str, str], float] = field(default_factory=dict)
    """When each asset of a partition that is under way last said how far it is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
        self.__dict__.pop("corpus", None)  # each holds the other, and the connections of the store with them

    def at_once(self, usual: int) -> int:
        """How much of something to hold in memory."""
        return max(1, usual >> self.halvings)

    def say(self, line: str) -> None:
        """Progress for people: one short line."""
        self.sinks.tell(Said(**self.own, line=line))

    def say_waiting(self, line: str) -> None:
        """What the run waits for, where that is not its own work: one short line."""
        self.sinks.tell(Waiting(**self.own, line=line))

    def advance(self, asset: str, partition: str, done: int, total: int, reused: int = 0) -> None:
        """Documents done, documents in all, and how many of those done were taken over."""
        if self.stopping.is_set():
            raise RunStopped("the run was interrupted")
        if not self.sinks.wants(Advanced):
            return
        if done < total:
            moment = time.monotonic()
            if moment - self._advanced.get((asset, partition), -ADVANCE_S) < ADVANCE_S:
                return
            self._advanced[asset, partition] = moment
        else:
            self._advanced.pop((asset, partition), None)
        self.sinks.tell(Advanced(**self.own, asset=asset, partition=partition, done=done, total=total, reused=reused))

    def tell_calls(self) -> None:
        """What was called since the last time."""
        if self.live is not None:
            for caller, spend in self.live.take().items():
                self.sinks.tell(CallsMade(**self.own, asset=caller.asset, partition=caller.partition, spend=spend))

    @cached_property
    def own(self) -> dict[str, str]:
        """What every event of the run says."""
        return {"collection": self.collection.name, "run_id": self.run_id}

    def looked_at(self) -> Mapping[str, object]:
        """What the run goes by that people may change meanwhile, for a further process of it."""
        return {name: getattr(self, name) for name in LOOKED_AT}

    def take_over(self, listing: Listing, looked_at: Mapping[str, object]) -> None:
        """Of the run that this is a further process of."""
        vars(self).update(looked_at, listing=listing)

    @cached_property
    def forgotten(self) -> Register:
        """Documents whose text must not come back."""
        with self.stores.state.read() as connection:
            return forgotten.of(connection, self.collection.name)

    @cached_property
    def listing(self) -> Listing:
        """The source as it is now; looked at once per run."""
        return observe(self.collection, self.stores.lake, self.stores.state)

    @cached_property
    def authors(self) -> Sequence[Mapping[str, str]]:
        """Who edited the prompts last; git is asked once per run."""
        from ai_assets.signoff.authors import authors

        prompts = [stage.prompt for stage in self.collection.stages if stage.prompt is not None]
        return authors([self.collection.folder / prompt for prompt in prompts])

    @cached_property
    def corrections(self) -> "Corrections":
        """What people said of labels, as it was when the run first looked: a later word makes partitions stale."""
        from ai_assets.signoff.corrections import in_force

        with self.stores.state.read() as connection:
            return in_force(connection, self.collection)

    @cached_property
    def golden_labels(self) -> "GoldenInForce":
        """What people say is right, as it was when the run first looked."""
        from ai_assets.signoff.golden_labels import in_force

        with self.stores.state.read() as connection:
            return in_force(connection, self.collection)

    @cached_property
    def hold_decisions(self) -> "HoldDecisions":
        """What people said of held documents, as it was when the run first looked."""
        from ai_assets.signoff.holds import in_force

        with self.stores.state.read() as connection:
            return in_force(connection, self.collection)

    def with_holds(self, people_gave: str, partition: str) -> str:
        """The same with the decisions about held documents that its candidate knows, or could know by now."""
        if not self.collection.holding:
            return people_gave
        from ai_assets.signoff import holds, requests
        from ai_assets.signoff.golden_labels import with_golden

        with self.stores.state.read() as connection:
            last = requests.latest_of(connection, self.collection.name, partition)
        return with_golden(people_gave, "", self.hold_decisions.version(partition, holds.known_until(last)))

    def people_gave(self, partition: str) -> str:
        """One version of all that people said of a partition's labels: corrections, golden ones where there are, and
        the confidence that is fitted to them."""
        from ai_assets.signoff import calibration_labels
        from ai_assets.signoff.golden_labels import with_golden

        confidence = calibration_labels.version(self.calibration_labels)
        return with_golden(self.corrections.version(partition), self.golden_labels.version(partition), confidence)

    def with_fit(self, people_gave: str) -> str:
        """The same with the search that is fitted to golden queries, which the run itself may fit."""
        from ai_assets.signoff import fitted_searches
        from ai_assets.signoff.golden_labels import with_golden

        return with_golden(people_gave, "", fitted_searches.version(self.collection, self.fitted_weights))

    @cached_property
    def fitted_weights(self) -> "Mapping[str, FittedWeight]":
        """Of its search, by embedding, as they were when the run first looked; an evaluation may fit them before."""
        from ai_assets.signoff.fitted_searches import fitted

        with self.stores.state.read() as connection:
            return fitted(connection, self.collection)

    @property
    def searched_by(self) -> "SearchedBy":
        """How what this run makes is searched."""
        from ai_assets.signoff.fitted_searches import searched_by

        return searched_by(self.collection, self.fitted_weights)

    @cached_property
    def calibration_labels(self) -> "Mapping[str, AgreedLabel]":
        """Golden labels of the desk that the built-in classifier's confidence is fitted to, by document."""
        from ai_assets.signoff.calibration_labels import calibrating

        return calibrating(self.collection, self.golden_labels, self.corrections)

    @cached_property
    def corpus(self) -> "CorpusEvaluation":
        """Asked for when all partitions of the run are computed."""
        from ai_assets.run.datasets.evaluation_scores import CorpusEvaluation

        return CorpusEvaluation(self)

    @cached_property
    def drift(self) -> "DriftBench":
        """Of a collection that declares it."""
        from ai_assets.signoff.drifting import DriftBench

        return DriftBench(stores=self.stores, collection=self.collection)

    @cached_property
    def _contracts(self) -> "tuple[PublishedContracts, dict[str, GateVerdict | None]]":
        from ai_assets.signoff.contracts import published_contracts

        with self.stores.state.read() as connection:
            return published_contracts(connection, self.collection.name), {}

    def refuse_broken_contract(self) -> None:
        """What is declared cannot be published, so nothing is paid for it."""
        from ai_assets.signoff.contracts import why_undeclarable

        declared = self.collection.contract
        refuses = declared is not None and declared.on_break == "refuse"
        if refuses and (why := why_undeclarable(self.collection, self._contracts[0])) is not None:
            raise ContractUndeclarable(self.collection.name, why)

    def contract(self, frozen: "FrozenCandidate") -> "GateVerdict | None":
        """Whether it keeps what readers were promised; None where nothing was."""
        from ai_assets.signoff.contracts import contract_verdict

        published, known = self._contracts
        if frozen.digest not in known:
            known[frozen.digest] = contract_verdict(self.collection, self.stores.lake, frozen, published)
        return known[frozen.digest]

    def canary(self, frozen: "FrozenCandidate") -> "CanaryFinding":
        """Its rows that were made after a change of their model, as it is known now."""
        from ai_assets.signoff.canaries import canary_finding

        return canary_finding(self.stores, self.collection.name, frozen.partition, frozen, self.inference)

    @cached_property
    def source(self) -> Source:
        return Source.at(self.collection.source_path)

    @cached_property
    def parser(self) -> Parser:
        """Without languages, which are asked of `texts`."""
        return self._closing.enter_context(Parser(limits_of(self.collection), tells_language=False))

    @cached_property
    def texts(self) -> "TextWork":
        from ai_assets.run.text_process import TextWork

        found = TextWork(self.cores, self.stores.home.languages)
        self._closing.callback(found.close)
        return found

    def embedder(
        self, asset: str, partition: str, embedding: Embedding
    ) -> "BuiltinEmbedder | OwnEmbedder | DeviceEmbedder | RouteEmbedder":
        """Makes vectors of an embedding of the collection, or of a release, and has `asset` pay for them."""
        from ai_assets.embedding.builtin import BuiltinEmbedder

        if embedding.version is None:
            from ai_assets.embedding.route import RouteEmbedder

            return RouteEmbedder(
                engine=self.engine,
                caller=self.caller(asset, partition),
                route=self._route_of(embedding, asset),
                embedding=embedding,
                waiting=self.waiting,
            )
        if embedding.use is not None:
            own = self._own_embedder(embedding)
            return own if not own.is_local else self._on_device(own, asset, partition)
        builtin = BuiltinEmbedder()
        if embedding.version != builtin.version:
            raise EmbedderLost(self.collection.name, str(embedding), "another version of it is installed")
        return builtin

    def _own_embedder(self, embedding: Embedding) -> "OwnEmbedder":
        """One for all partitions, for its model may be large; closed with the run."""
        from ai_assets.embedding.own import own_embedder

        assert embedding.use is not None
        with self._making:
            found = self._own_embedders.get(embedding.space)
            if found is None:
                try:
                    found = own_embedder(embedding.use, embedding.options, self.collection.folder / DEFS_FILE)
                except (ExtensionUnusable, ExtraMissing, ModelUnusable) as error:
                    raise EmbedderLost(self.collection.name, str(embedding), str(error)) from error
                if found.embedding.space != embedding.space:
                    said = f"{embedding.use} is another version by now"
                    raise EmbedderLost(self.collection.name, str(embedding), said)
                self._own_embedders[embedding.space] = found
                self._closing.callback(found.close)
        return found

    def _on_device(self, own: "OwnEmbedder", asset: str, partition: str) -> "DeviceEmbedder":
        """A model that all partitions share; a question to a release finds it loaded, or goes to the processor."""
        from ai_assets.embedding.local import LocalEmbedder
        from ai_assets.embedding.on_device import DeviceEmbedder, placed

        assert isinstance(own.inner, LocalEmbedder)
        declared = (each for each in self.collection.embeddings if each.embedding.space == own.embedding.space)
        device = next((each.settings.device for each in declared if each.settings.device), "auto")
        asks = self.collection.embedding_of(asset) is None
        return DeviceEmbedder(
            inner=own.inner,
            embedding=own.embedding,
            models=self.local_models,
            placement=placed(device, self.inference, self.local_models, own.inner.spec, asks=asks),
            caller=self.caller(asset, partition),
            state=self.stores.state,
            say=self.say_waiting,
            waiting=self.waiting,
        )

    @cached_property
    def local_models(self) -> "LocalModels":
        from ai_assets.local_models.host import LocalModels

        with self._making:
            if "local_models" in self.__dict__:
                found: LocalModels = self.__dict__["local_models"]
                return found
            found = LocalModels(self.stores.state, halvings=self.halvings)
            self._closing.callback(found.close)
            self.__dict__["local_models"] = found
        return found

    def _route_of(self, embedding: Embedding, asset: str) -> str:
        """Where to ask for vectors like these: the route of the asset itself or of another embedding of the collection,
        or any endpoint that serves the same model."""
        for each in sorted(self.collection.embeddings, key=lambda each: each.asset != asset):
            if each.settings.route is not None and embedding.space == each.embedding.space:
                return each.settings.route
        for name, endpoint in self.inference.endpoints.items():
            if endpoint.llm == embedding.model:
                return name
        raise EmbedderLost(self.collection.name, str(embedding), "no endpoint of inference.yaml has that model")

    @cached_property
    def inference(self) -> "InferenceSettings":
        return Catalog(self.stores.home).inference_of(self.collection.name)

    @cached_property
    def live(self) -> "LiveSpend | None":
        """What calls come to while they go on; nothing is counted where no sink hears of it."""
        from ai_assets.inference.live_spend import LiveSpend

        return LiveSpend() if self.sinks.wants(CallsMade) else None

    @cached_property
    def engine(self) -> "Engine":
        """Makes the calls of what is on a route; made when the first has something to ask."""
        from ai_assets.inference.engine import Engine

        engine = Engine(
            self.inference, self.stores.state, self.say_waiting, self.live, self.priority, self.call_listener
        )
        self._closing.callback(engine.close)
        return engine

    @cached_property
    def batches(self) -> "BatchAsker":
        """Takes the calls of what is asked by batch; `refresh` submits them when all partitions have asked."""
        from ai_assets.inference.batch.asking import BatchAsker

        asker = BatchAsker(self.inference, self.stores.state, listener=self.call_listener)
        self._closing.callback(asker.close)
        return asker

    @cached_property
    def by_deadline(self) -> "DeadlineAsker":
        """Asks what is due at some time, by whatever is cheap and in time."""
        from ai_assets.inference.by_deadline import DeadlineAsker

        return DeadlineAsker(
            settings=self.inference,
            state=self.stores.state,
            engine=lambda: self.engine,
            batches=lambda: self.batches,
            say=self.say,
        )

    def submit_batches(self) -> "Mapping[tuple[str, str], UserError]":
        """Where any were filled; why some were not taken, by asset and partition whose calls are in them."""
        if "batches" not in self.__dict__:
            return {}
        with suppress(UserError):
            self.batches.submit()
        unsent = self.batches.unsent.items()
        return {(asset, partition): error for (name, asset, partition), error in unsent if name == self.collection.name}

    def caller(self, asset: str, partition: str) -> "Caller":
        """Who asks, and so who pays."""
        from ai_assets.inference.records import Caller

        return Caller(
            tenant=self.collection.settings.tenant,
            collection=self.collection.name,
            asset=asset,
            partition=partition,
            run_id=self.run_id,
            backfill=self.backfill,
        )

    def spent(self, asset: str, partition: str) -> dict[str, Any]:
        """What the calls of this run for it came to."""
        from ai_assets.inference.spend import spend

        with self.stores.state.read() as connection:
            name, run_id = self.collection.name, self.run_id
            return asdict(spend(connection, collection=name, asset=asset, partition=partition, run_id=run_id))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a model's answers: meanwhile another partition may compute."""
        if self.baton is None:
            yield
            return
        with self.baton.passed_on():
            yield

    @contextmanager
    def fenced(self) -> Iterator[sa.Connection]:
        """A write transaction in which no other process can take over what this thread works on."""
        held: Lease | None = getattr(self.lease, "held", None)
        with held.fenced() if held is not None else self.stores.state.write() as connection:
            yield connection

    def manifest(self, asset: str, partition: str) -> Manifest | None:
        return self.stores.lake.manifest(self.collection.name, asset, partition)

    def previous(self, asset: str, partition: str) -> Manifest | None:
        """What was computed before, to take rows over from; None also where its file is lost or was altered."""
        manifest = self.manifest(asset, partition)
        return manifest if manifest is not None and self.stores.lake.holds(manifest) else None

    def input(self, asset: str, partition: str, needed: str) -> Manifest:
        """The dataset `asset` is made from; where it does not exist the error says what to run."""
        manifest = self.manifest(needed, partition)
        if manifest is None:
            raise InputMissing(self.collection.name, asset, partition, needed)
        return manifest

    def read(self, manifest: Manifest, columns: list[str] | None = None) -> "pa.Table":
        """All of it at once; for datasets whose size is not that of a partition, and for whole columns."""
        return self.stores.lake.read(manifest, columns)

    def rows(
        self, manifest: Manifest, columns: Sequence[str] | None = None, documents: Iterable[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """In order, a row group at a time; only those of `documents`, where they are named."""
        return self.stores.lake.rows(manifest, columns, documents)

    def writing(self, asset: str, partition: str, schema: "pa.Schema") -> "AbstractContextManager[RowWriter]":
        """A file of rows to come, for `commit`."""
        return writing_rows(self.stores.lake.folder(self.collection.name, asset, partition), schema)

    def spool(self, asset: str, partition: str) -> Spool:
        return Spool(self.stores.lake.folder(self.collection.name, asset, partition))

    def fingerprint(self, asset: str, inputs: Mapping[str, str]) -> str:
        return digest([self.collection.code_versions[asset], dict(inputs)])[:32]

    def unchanged(self, asset: str, partition: str, inputs: Mapping[str, str]) -> Outcome | None:
        """The dataset that is there already, if it was made from these very inputs by this very code."""
        manifest = self.manifest(asset, partition)
        if manifest is None or manifest.fingerprint != self.fingerprint(asset, inputs):
            return None
        if not self.stores.lake.holds(manifest):
            return None  # a file that is lost or was altered is made again
        stats = manifest.stats
        return Outcome(
            manifest=manifest,
            documents_in=stats["documents_in"],
            documents_out=stats["documents_out"],
            reused=stats["documents_out"],
            quarantined=stats["quarantined"],
            unchanged=True,
        )

    def commit(
        self,
        asset: str,
        partition: str,
        table: "pa.Table | Path",
        inputs: Mapping[str, str],
        *,
        started: float,
        documents_in: int,
        documents_out: int,
        reused: int,
        quarantined: int = 0,
        preview: list[dict[str, Any]],
        **stats: Json,
    ) -> Outcome:
        """Make the rows the current dataset of the partition, and the state store's view of it."""
        manifest = self.stores.lake.commit(
            self.collection.name,
            asset,
            partition,
            table,
            code_version=self.collection.code_versions[asset],
            fingerprint=self.fingerprint(asset, inputs),
            inputs=inputs,
            stats={
                **stats,
                "documents_in": documents_in,
                "documents_out": documents_out,
                "quarantined": quarantined,
                "preview": [_shortened(row) for row in preview[:PREVIEW_ROWS]],
            },
            run_id=self.run_id,
            fenced=self.fenced,
        )
        return Outcome(
            manifest=manifest,
            documents_in=documents_in,
            documents_out=documents_out,
            reused=reused,
            computed=documents_in - reused,
            quarantined=quarantined,
            seconds=time.perf_counter() - started,
        )


def _shortened(row: Mapping[str, Any]) -> dict[str, Json]:
    return {
        key: value[:PREVIEW_CHARACTERS] + "…" if isinstance(value, str) and len(value) > PREVIEW_CHARACTERS else value
        for key, value in row.items()
    }
