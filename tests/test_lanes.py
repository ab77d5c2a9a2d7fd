"""Claims about several partitions under way at once, where a stage asks a model."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import Project
from provider import Provider
from test_llm_stages import BILL, PRICED
from test_stage_settings import KIND, declare

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.collection.loading import Collection
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.run.baton import Baton
from ai_assets.run.concurrency import LANES, THREADS, as_ready, in_lanes
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets import chunks, function_stage
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import RunEvent, StageBegan, StageEnded
from ai_assets.run.one_partition import leads_to_models
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks

pytestmark = pytest.mark.slow

DAYS = [f"2026-10-{day:02d}" for day in range(5, 17)]
PARTITIONS = {"by": "day", "start": DAYS[0], "end": DAYS[-1]}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider(latency_ms=400) as started:
        monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", started.url)
        yield started


@pytest.fixture
def office(project: Project) -> Project:
    """A document a day."""
    (project.root / "inference.yaml").write_text(PRICED)
    for number, day in enumerate(DAYS):
        project.document(f"{day}/bill.txt", BILL.format(n=number + 1))
    return project


def candidates(work: Work) -> list[str]:
    return [
        event.manifest.partition
        for event in refresh(work, DAYS)
        if isinstance(event, Outcome) and event.manifest.asset == "release_candidate"
    ]


def test_the_calls_of_several_partitions_are_in_flight_together(office: Project, provider: Provider) -> None:
    with office.work(declare(office, [KIND], partitions=PARTITIONS)) as work:
        assert sorted(candidates(work)) == DAYS
    stats = provider.stats()
    assert LANES // 2 < stats["peak_in_flight"] <= LANES, "a partition has one document, so alone it has one call"
    assert stats["billed"] == len(DAYS)


def test_only_one_partition_computes_at_a_time(
    office: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing: list[int] = []
    inside = threading.Semaphore(1)
    built = chunks.build

    def watched(work: Work, partition: str) -> Outcome:
        assert inside.acquire(blocking=False), "two partitions compute at once"
        computing.append(threading.get_ident())
        try:
            return built(work, partition)
        finally:
            inside.release()

    monkeypatch.setattr(chunks, "build", watched)
    with office.work(declare(office, [KIND], partitions=PARTITIONS)) as work:
        assert sorted(candidates(work)) == DAYS
    assert len(computing) == len(DAYS)
    assert len(set(computing)) > 1


def test_the_baton_goes_to_the_lowest_rank_and_else_to_who_came_first() -> None:
    baton, order = Baton(), list[str]()

    def compute(name: str, rank: tuple[int, ...]) -> None:
        with baton.held(rank):
            order.append(name)

    ranks = {"chunks of 0": (1, 0), "documents of 2": (0, 2), "documents of 1": (0, 1), "vectors of 0": (1, 0)}
    with baton.held((9,)):
        threads = []
        for name, rank in ranks.items():
            threads.append(threading.Thread(target=compute, args=(name, rank)))
            threads[-1].start()
            while len(baton._line) < len(threads):
                time.sleep(0.001)
        with baton.passed_on():
            for thread in threads:
                thread.join()
        order.append("again")
    assert order == ["documents of 1", "documents of 2", "chunks of 0", "vectors of 0", "again"]


def test_what_leads_to_a_question_goes_before_what_follows_from_it(office: Project) -> None:
    second = {"name": "second", "kind": "summarise", "after": ["letters"]}
    folder = office.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(OWN)
    collection = declare(office, [KIND, LETTERS, second], partitions=PARTITIONS)
    assert leads_to_models(collection) == {"documents", "kind", "letters", "second"}


def test_a_partition_that_fails_leaves_the_others(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND], partitions=PARTITIONS)
    with office.work(collection) as work:
        candidates(work)
    lost = office.stores().lake
    manifest = lost.manifest("notes", "documents", DAYS[3])
    assert manifest is not None
    lost.path(manifest).write_bytes(b"no parquet")
    edited = declare(office, [{**KIND, "temperature": 0.5}], partitions=PARTITIONS)
    seen: list[Outcome] = []
    with office.work(edited, "again") as work, pytest.raises(PartitionsFailed) as failed:
        seen.extend(event for event in refresh(work, DAYS, ["kind", "release_candidate"]) if isinstance(event, Outcome))
    done = [outcome.manifest.partition for outcome in seen if outcome.manifest.asset == "kind"]
    assert list(failed.value.errors) == [DAYS[3]]
    assert sorted(done) == [day for day in DAYS if day != DAYS[3]]


def test_a_bug_in_one_partition_ends_the_run_and_leaves_no_thread(office: Project, provider: Provider) -> None:
    def broken(partition: str) -> Iterator[Outcome]:
        raise ZeroDivisionError(partition)

    with office.work(declare(office, [KIND], partitions=PARTITIONS)) as work, pytest.raises(ZeroDivisionError):
        list(in_lanes(work, DAYS, broken, lambda _partition: None))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("partition")]


def test_who_stops_reading_stops_the_asking(office: Project, provider: Provider) -> None:
    with office.work(declare(office, [KIND], partitions=PARTITIONS)) as work:
        events = refresh(work, DAYS)
        next(event for event in events if isinstance(event, Outcome) and event.manifest.asset == "kind")
        events.close()  # type: ignore[attr-defined]
        asked = provider.stats()["billed"]
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("partition")]
    assert asked < len(DAYS)
    assert provider.stats()["billed"] == asked


def test_what_stops_all_partitions_is_said_once(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(PRICED + "budgets: [{name: tiny, limit_usd: 0.0001}]\n")
    with office.work(declare(office, [KIND], partitions=PARTITIONS)) as work, pytest.raises(PartitionsFailed) as failed:
        candidates(work)
    assert len(failed.value.errors) == len(DAYS)
    assert str(failed.value).count("Budget 'tiny' (tiny/ever) is used up") == 1
    assert f"({len(DAYS)} partitions)" in str(failed.value)
    assert provider.stats()["billed"] == 0


# Siblings in one partition

LETTERS = {"name": "letters", "kind": "function", "function": "./own.py:letters"}
OWN = """
from ai_assets import stage

@stage(version="1", columns={"n": int})
def letters(document):
    return {"n": len(document.text)}
"""
DIAMOND = [
    KIND,
    {"name": "left", "kind": "summarise", "when": {"kind": ["invoice", "incident"]}},
    {"name": "right", "kind": "generate", "when": {"kind": ["invoice", "incident"]}},
    {"name": "joined", "kind": "summarise", "after": ["left", "right"]},
    LETTERS,
]


@pytest.fixture
def diamond(office: Project, provider: Provider) -> Collection:
    provider.configure(latency_ms=1200)  # longer than anything that is computed meanwhile, on a busy machine too
    BuiltinEmbedder().embed(["its vectors are loaded"])
    folder = office.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(OWN)
    return declare(office, [dict(stage) for stage in DIAMOND], partitions={**PARTITIONS, "end": DAYS[0]})


class Spans(Sink):
    """When each asset of a run began and ended, in order."""

    hears = (StageBegan, StageEnded)

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def hear(self, event: RunEvent) -> None:
        assert isinstance(event, StageBegan | StageEnded)
        self.told.append(("began" if isinstance(event, StageBegan) else "ended", event.asset))

    def before(self, first: tuple[str, str], second: tuple[str, str]) -> bool:
        return self.told.index(first) < self.told.index(second)


def work_of(office: Project, collection: Collection, sink: Sink) -> Work:
    return replace(office.work(collection), sinks=Sinks([sink]))


def test_stages_that_do_not_need_each_other_run_at_once(
    office: Project, provider: Provider, diamond: Collection
) -> None:
    spans = Spans()
    with work_of(office, diamond, spans) as work:
        list(refresh(work, DAYS[:1]))
    assert spans.before(("began", "right"), ("ended", "left"))
    assert spans.before(("began", "left"), ("ended", "right"))
    assert spans.before(("ended", "embeddings"), ("ended", "kind")), "vectors are made while the model is waited for"
    assert spans.before(("ended", "letters"), ("ended", "kind"))
    for earlier in ("left", "right"):
        assert spans.before(("ended", "kind"), ("began", earlier))
        assert spans.before(("ended", earlier), ("began", "joined"))
    again = Spans()
    with work_of(office, diamond, again) as work:
        assert all(event.unchanged for event in refresh(work, DAYS[:1]) if isinstance(event, Outcome))


def test_a_sibling_that_fails_lets_those_under_way_end_and_nothing_begin(
    office: Project, provider: Provider, diamond: Collection
) -> None:
    spans = Spans()

    def fails(_work: Work, _partition: str, _stage: object) -> Outcome:
        raise UserError("letters cannot be counted")

    with pytest.MonkeyPatch.context() as patched, work_of(office, diamond, spans) as work:
        patched.setattr(function_stage, "build", fails)
        with pytest.raises(PartitionsFailed, match="letters cannot be counted"):
            list(refresh(work, DAYS[:1]))
    assert ("ended", "kind") in spans.told, "its calls were sent, so it ends and is kept"
    assert not [asset for said, asset in spans.told if asset in ("left", "right", "joined")]
    assert office.stores().lake.manifest("notes", "kind", DAYS[0]) is not None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def test_what_is_wrong_in_several_siblings_is_said_of_the_first_in_order() -> None:
    def build(asset: str) -> Iterator[str]:
        yield f"{asset} began"
        raise UserError(f"{asset} failed")

    events = as_ready(["a", "b", "c"], {"a": [], "b": [], "c": ["a"]}.__getitem__, build)
    heard: list[str] = []
    with pytest.raises(UserError, match="a failed"):
        heard.extend(events)
    assert "c began" not in heard


@pytest.mark.parametrize("worse", [LeaseLost("refresh:notes"), TypeError("a bug"), KeyboardInterrupt()])
def test_what_ends_the_run_is_not_hidden_by_a_sibling_that_only_fails(worse: BaseException) -> None:
    def build(asset: str) -> Iterator[str]:
        yield asset
        raise UserError("a failed") if asset == "a" else worse

    with pytest.raises(type(worse)):
        list(as_ready(["a", "b"], lambda _asset: [], build))
