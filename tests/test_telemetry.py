"""Claims about telemetry: what a real collector gets of a run and its calls, and that no collector can hurt a run."""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import pytest
from collector import ENDPOINT, Collector, Span, collecting, spans_in
from conftest import DAYS, STAGE, Project, eventually
from engines import check_books, declare, one, question, questions, rows
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from provider import Provider
from test_batch_runs import BY_BATCH, collected
from test_worker_processes import BRIEF, KEYS, PROCESS, shards

from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Answer, Caller, Result
from ai_assets.orchestration import llm_resource
from ai_assets.orchestration.llm_resource import LLMResource
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sinks
from ai_assets.storage.state import StateStore
from ai_assets.telemetry import opening, span_encoding
from ai_assets.telemetry.command_span import command_span
from ai_assets.telemetry.conventions import LATEST, OPT_IN
from ai_assets.telemetry.settings import CONTENT
from ai_assets.telemetry.span_records import EndedSpan
from ai_assets.telemetry.trace_context import TraceContext, parsed, trace_of_run

DAY, NEXT = "2026-10-05", "2026-10-06"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "sk-a-secret-that-nobody-may-read"
CALLER = Caller(collection="notes", asset="kind", partition=DAY, run_id="run")
CLIENT, INTERNAL, ERROR = 3, 1, 2


@pytest.fixture
def quick(running: Provider) -> Iterator[Provider]:
    with running.lent():
        yield running


def asked(
    store_url: str, provider: Provider, requests: Sequence[Any], **endpoint: Any
) -> tuple[list[Result], list[str]]:
    """Through an engine whose calls a run would tell to the collector; what the run would have reported."""
    said: list[str] = []
    telemetry = opening.of_run(run_id="run", tenant="north", tags={}, report=said.append)
    assert telemetry is not None
    with Engine(one(provider.url, **endpoint), StateStore(store_url), listener=telemetry.calls) as engine:
        results = list(engine.map(requests, CALLER))
    telemetry.sink.close()
    return results, said


def sqlite(project: Project) -> str:
    return f"sqlite:///{project.home.root / 'state.db'}"


# The tree


def test_a_run_is_a_tree_of_run_partitions_stages_calls_and_attempts(
    project: Project, quick: Provider, collector: Collector
) -> None:
    declare(project.root, quick.url)
    project.documents(2, days=2)
    collection = project.declare(stages=[BRIEF], partitions={**DAYS, "end": "2026-10-06"})
    with project.instance() as instance:
        done = project.execute(
            instance, collection, "notes", **tags_of_two_days(), traceparent=PARENT, tracestate="a=1"
        )
        assert done.success
    (run,) = collector.named("run notes")
    assert {span.trace_id for span in collector.spans} == {PARENT.split("-")[1]}
    assert (run.parent_id, run.state, run["ai_assets.run.id"]) == (PARENT.split("-")[2], "a=1", done.run_id)
    assert run["ai_assets.partitions"] == 2
    partitions = collector.below(run)
    assert {span["ai_assets.partition"] for span in partitions} == {DAY, "2026-10-06"}
    assert {span.name for span in partitions} == {"partition"}
    for partition in partitions:
        stages = {span["ai_assets.stage"]: span for span in collector.below(partition)}
        assert set(stages) == set(collection.asset_names)
        assert all(within(stage, partition) for stage in stages.values())
        calls = collector.below(stages["brief"])
        assert [(call.name, call["ai_assets.call.outcome"], call.kind) for call in calls] == [
            ("call brief", "answered", INTERNAL)
        ] * 2
        for call in calls:
            (attempt,) = collector.below(call)
            assert within(call, stages["brief"])
            assert within(attempt, call)
            assert (attempt.name, attempt.kind) == ("chat rehearsal-mini", CLIENT)
            assert attempt["ai_assets.partition"] == partition["ai_assets.partition"]
    children = {span.parent_id for span in collector.spans} - {run.parent_id}
    assert children <= {span.span_id for span in collector.spans}, "no span hangs in the air"
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)
    paid = sum(span.attributes.get("ai_assets.cost.usd", 0) for span in collector.spans)
    nusd = rows(sqlite(project), "SELECT sum(cost_nusd) AS n FROM attempts")[0].n
    assert paid == pytest.approx(nusd / 1e9)
    assert collector.total("ai_assets.cost") == pytest.approx(nusd / 1e9)
    assert collector.total("ai_assets.calls", **{"ai_assets.call.outcome": "answered"}) == 4
    assert {span.resource["service.name"] for span in collector.spans} == {"ai_assets"}


def tags_of_two_days() -> dict[str, str]:
    return {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": "2026-10-06"}


def within(inner: Span, outer: Span) -> bool:
    return outer.began_ns <= inner.began_ns <= inner.ended_ns <= outer.ended_ns


@pytest.mark.slow
def test_calls_of_further_processes_stand_in_the_same_tree(
    project: Project, quick: Provider, collector: Collector
) -> None:
    declare(project.root, quick.url)
    collection = shards(project, 24, PROCESS, BRIEF)
    telemetry = opening.of_run(run_id="run", tenant="default", tags={}, report=print)
    assert telemetry is not None
    with Work(
        collection, project.stores(), "run", Sinks([telemetry.sink]), workers=2, call_listener=telemetry.calls,
        trace=telemetry.root,
    ) as work:  # fmt: skip
        list(refresh(work, KEYS))  # while a document is processed, which takes a second, the other process begins
    telemetry.sink.close()
    calls = collector.named("call brief")
    assert len(calls) == 24
    assert len({call.resource["service.instance.id"] for call in calls}) == 2
    stages = {span.span_id: span for span in collector.named("stage brief")}
    assert all(stages[call.parent_id]["ai_assets.partition"] == call["ai_assets.partition"] for call in calls)
    assert {span.trace_id for span in collector.spans} == {f"{trace_of_run('run'):032x}"}
    assert collector.total("ai_assets.attempts") == 24


def test_a_retry_is_two_attempts_of_one_call_and_the_first_says_what_was_wrong(
    project: Project, quick: Provider, collector: Collector
) -> None:
    quick.script([{"match": "Note 1.", "fault": "rate_limited", "times": 1}])
    results, _ = asked(sqlite(project), quick, [question(1)])
    assert isinstance(results[0], Answer)
    (call,) = collector.named("call")
    first, second = sorted(collector.below(call), key=lambda span: span.began_ns)
    assert (first.status, first["error.type"], first["ai_assets.attempt.number"]) == (ERROR, "rate_limited", 1)
    assert (second.status, second["ai_assets.attempt.number"]) == (0, 2)
    assert "error.type" not in second.attributes
    assert (call.status, call["ai_assets.call.attempts"]) == (0, 2)
    assert collector.total("ai_assets.attempts", **{"error.type": "rate_limited"}) == 1


def test_a_call_without_an_answer_has_failed_and_one_of_the_ledger_has_no_attempt(
    project: Project, quick: Provider, collector: Collector
) -> None:
    quick.script([{"match": "Note 2.", "fault": "content_filter", "times": None}])
    asked(sqlite(project), quick, [question(1), question(2)])
    asked(sqlite(project), quick, [question(1)])
    outcomes = Counter(call["ai_assets.call.outcome"] for call in collector.named("call"))
    assert outcomes == {"answered": 2, "refused": 1}
    (refused,) = [call for call in collector.named("call") if call.status == ERROR]
    assert refused["error.type"] == "refused"
    (reused,) = [call for call in collector.named("call") if call.attributes.get("ai_assets.call.reused")]
    assert collector.below(reused) == []
    assert reused["ai_assets.cost.saved_usd"] > 0
    assert collector.total("ai_assets.calls", **{"ai_assets.call.outcome": "reused"}) == 1


def test_a_stage_that_waits_for_its_batch_has_not_failed_and_its_answers_are_reused(
    project: Project, collector: Collector
) -> None:
    with Provider(answers="quick", batch_seconds=0.2) as provider:
        declare(project.root, provider.url, batch={"price_share": 0.5})
        project.documents(2, days=1)
        collection = project.declare(stages=[BY_BATCH])
        with project.instance() as instance:
            tags = {"dagster/partition": DAY}
            assert project.execute(instance, collection, "notes", **tags).success
            (stage,) = collector.named("stage kind")
            assert (stage.status, stage["ai_assets.waits_for"], stage["ai_assets.calls"]) == (0, "batch", 2)
            assert not collector.named("stage release_candidate")
            (run,) = collector.named("run notes")
            collected(project, collection)
            (batch,) = collector.named("batch")
            assert (batch.trace_id, batch["ai_assets.run.id"]) == (run.trace_id, run["ai_assets.run.id"])
            assert [(line.name, line["ai_assets.partition"]) for line in collector.below(batch)] == [
                ("call kind", DAY)
            ] * 2
            assert project.execute(instance, collection, "notes", **tags).success
    again = next(each for each in collector.named("stage kind") if "ai_assets.waits_for" not in each.attributes)
    calls = collector.below(again)
    assert [(each["ai_assets.call.reused"], each["ai_assets.call.attempts"]) for each in calls] == [(True, 0)] * 2


# Of plain assets and programs


@dg.asset(key_prefix="mail", retry_policy=dg.RetryPolicy(max_retries=1))
def summaries(context: dg.AssetExecutionContext, llm: LLMResource) -> None:
    list(llm.map(["Is the pump due?", "Is the valve due?"]))
    if not context.retry_number:
        raise ValueError("something else went wrong")


@dg.op
def sort_mail(llm: LLMResource) -> None:
    llm.call("Is it due?")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(llm.call, "Whose is it?").result()


def test_calls_of_plain_assets_are_below_a_span_of_their_step(
    project: Project, quick: Provider, collector: Collector
) -> None:
    declare(project.root, quick.url)
    resources = {"llm": LLMResource()}
    result = dg.materialize([summaries], resources=resources, tags={"traceparent": PARENT, "tracestate": "a=1"})
    (step,) = collector.named("step")
    assert (step.name, step.parent_id, step.state) == ("step summaries", PARENT.split("-")[2], "a=1")
    about = {"collection": "mail", "stage": "summaries", "run.id": result.run_id, "tenant": "default"}
    assert step.attributes == {f"ai_assets.{name}": value for name, value in about.items()}
    calls = collector.below(step)
    assert Counter(call["ai_assets.call.outcome"] for call in calls) == {"answered": 4}
    reused = [call for call in calls if call.attributes.get("ai_assets.call.reused")]
    assert [collector.below(call) for call in reused] == [[], []], "the retried step finds what it had"
    attempts = [attempt for call in calls for attempt in collector.below(call)]
    assert [attempt.name for attempt in attempts] == ["chat rehearsal-mini"] * 2
    assert all(attempt["ai_assets.stage"] == "summaries" and attempt.kind == CLIENT for attempt in attempts)
    assert all(within(each, step) for each in (*calls, *attempts))
    assert {span.trace_id for span in collector.spans} == {PARENT.split("-")[1]}
    assert collector.total("ai_assets.attempts", **{"ai_assets.stage": "summaries"}) == 2


@dg.asset(key_prefix="mail")
def torn(llm: LLMResource) -> None:
    llm.call("Is the pump due?")
    raise LookupError("Mrs Whitcombe complains about the pump")


@dg.asset(key_prefix="mail")
def whole(llm: LLMResource) -> None:
    llm.call("Is the valve due?")


def test_a_step_that_fails_is_an_error_of_its_kind_and_says_nothing_of_what_it_read(
    project: Project, quick: Provider, collector: Collector
) -> None:
    declare(project.root, quick.url)
    done = dg.materialize([torn, whole], resources={"llm": LLMResource()}, raise_on_error=False)
    assert not done.success
    spans = {span.name: span for span in collector.named("step")}
    failed, fine = spans["step torn"], spans["step whole"]
    assert (failed.status, failed["error.type"], failed.said) == (ERROR, "LookupError", "LookupError")
    assert (fine.status, "error.type" in fine.attributes) == (0, False)
    assert len(collector.below(failed)) == 1


def test_a_stage_that_fails_is_an_error_of_its_kind_and_so_is_its_run(project: Project, collector: Collector) -> None:
    project.documents(2)
    collection = project.declare(partitions={**DAYS, "end": DAY})
    (project.home.lake / "notes").mkdir(parents=True)
    (project.home.lake / "notes" / "chunks").write_text("in the way")
    with project.instance() as instance:
        assert not project.execute(instance, collection, "notes", **{"dagster/partition": DAY}).success
    (stage,) = [span for span in collector.named("stage") if span.status == ERROR]
    assert stage.name == "stage chunks"
    assert stage["error.type"] == stage.said
    assert " " not in stage.said
    (run,) = collector.named("run notes")
    assert (run.status, run["error.type"], run.said) == (ERROR, "PartitionsFailed", "PartitionsFailed")
    assert collector.total("ai_assets.run.duration", **{"error.type": "PartitionsFailed"}) > 0


def test_calls_of_an_op_and_of_threads_of_its_own_are_in_the_trace_of_the_run(
    project: Project, quick: Provider, collector: Collector
) -> None:
    declare(project.root, quick.url)
    result = (
        dg.GraphDefinition(name="mail", node_defs=[sort_mail])
        .to_job(resource_defs={"llm": LLMResource()})
        .execute_in_process()
    )
    assert {span.name for span in collector.named("step")} == {"step sort_mail", "step"}
    assert [len(collector.below(step)) for step in collector.named("step")] == [1, 1]
    assert {span.trace_id for span in collector.spans} == {f"{trace_of_run(result.run_id):032x}"}


@pytest.mark.parametrize("above", [None, PARENT])
def test_in_a_program_each_call_is_a_root_or_continues_the_trace_of_the_environment(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch, above: str | None
) -> None:
    declare(project.root, quick.url)
    if above is not None:
        monkeypatch.setenv("TRACEPARENT", above)
    llm = LLMResource()
    list(llm.map(["Is the pump due?", "Is the valve due?"]))
    held = llm._opened()
    atexit.unregister(llm_resource._leave)
    llm_resource._leave(held)
    calls = collector.named("call model")
    assert {call.parent_id for call in calls} == {"" if above is None else above.split("-")[2]}
    assert len({call.trace_id for call in calls}) == (2 if above is None else 1)
    for call in calls:
        (attempt,) = collector.below(call)
        assert attempt.trace_id == call.trace_id
        assert within(attempt, call)
    assert not collector.named("step")


def test_requests_of_plain_assets_say_which_attempt_they_leave_from_and_trouble_is_said_in_the_run(
    project: Project, collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    with collecting() as server:  # any server that shows headers will do
        server.status = 404
        declare(project.root, f"{server.url}/v1")
        assert dg.materialize([summaries], resources={"llm": LLMResource()}).success
        attempts = {f"00-{each.trace_id}-{each.span_id}-01" for each in collector.named("chat")}
        assert {each["traceparent"] for each in server.headers if "traceparent" in each} == attempts
        assert attempts
        collector.status = 400
        assert dg.materialize([summaries], resources={"llm": LLMResource()}).success
    said = [line for line in capfd.readouterr().err.splitlines() if "collector of telemetry" in line]
    assert len(said) == 1, said


# Of commands


@pytest.mark.parametrize("content", [False, True])
def test_work_outside_a_run_that_fails_says_why_without_a_secret(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch, content: bool
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", SECRET)
    monkeypatch.setenv(CONTENT, str(content))

    def work() -> None:
        with command_span("shadow notes new", {"shadow": "new"}, print) as hearing:
            with Engine(one(quick.url), StateStore(sqlite(project)), listener=hearing.calls) as engine:
                engine.call(question(1), CALLER)
            raise ValueError(f"something is wrong with {SECRET}")

    with pytest.raises(ValueError, match="wrong"):
        work()
    (span,) = collector.named("shadow")
    assert (span.status, span["error.type"], span["ai_assets.shadow"]) == (ERROR, "ValueError", "new")
    assert span.said == ("something is wrong with ***" if content else "ValueError")
    assert len(collector.named("chat")) == 1


# Names


def test_the_old_names_are_the_default(project: Project, quick: Provider, collector: Collector) -> None:
    asked(sqlite(project), quick, [question(1, temperature=0.5, seed=7, prompt="3", max_output_tokens=99)])
    (attempt,) = collector.named("chat")
    assert attempt["gen_ai.operation.name"] == "chat"
    assert attempt["gen_ai.system"] == "openai"
    assert attempt["gen_ai.request.model"] == "small"
    assert attempt["gen_ai.request.max_tokens"] == 99
    assert attempt["gen_ai.request.temperature"] == 0.5
    assert attempt["gen_ai.openai.request.seed"] == 7
    assert attempt["gen_ai.response.finish_reasons"] == ["stop"]
    assert attempt["gen_ai.usage.input_tokens"] > 0
    assert attempt["server.address"] == "127.0.0.1"
    assert attempt["server.port"] == quick.port
    new = {"gen_ai.provider.name", "gen_ai.prompt.name", "gen_ai.usage.cost.amount", "gen_ai.request.seed"}
    assert not new & set(attempt.attributes)
    names = {name for name, _, _ in collector.metrics if name.startswith("gen_ai")}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert (
        collector.total("gen_ai.client.token.usage", **{"gen_ai.token.type": "input"})
        == (attempt["gen_ai.usage.input_tokens"])
    )


def test_the_latest_names_are_asked_for(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPT_IN, f"http, {LATEST}")
    asked(sqlite(project), quick, [question(1, temperature=0.5, seed=7, prompt="3")])
    (attempt,) = collector.named("chat")
    assert attempt["gen_ai.provider.name"] == "openai"
    assert attempt["gen_ai.request.seed"] == 7
    assert (attempt["gen_ai.prompt.name"], attempt["gen_ai.prompt.version"]) == ("kind", "3")
    assert attempt["gen_ai.usage.cost.amount"] == attempt["ai_assets.cost.usd"] > 0
    assert (attempt["gen_ai.usage.cost.currency"], attempt["gen_ai.usage.cost.source"]) == ("USD", "local")
    assert not {"gen_ai.system", "gen_ai.openai.request.seed"} & set(attempt.attributes)
    names = {name for name, _, _ in collector.metrics if name.startswith("gen_ai")}
    assert names >= {"gen_ai.client.inference.duration", "gen_ai.client.inference.usage.input_tokens"}
    assert not names & {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert not [name for name in collector.named("call")[0].attributes if "cost" in name], "counted once"


def test_scores_of_a_candidate_are_evaluations_where_the_latest_names_are_asked_for(
    project: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.documents(1, days=2)
    file = project.root / "collections" / "notes" / "golden.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    golden = [{"document": name, "label": "incident"} for name in (f"{DAY}/0.txt", f"{NEXT}/1.txt")]
    file.write_text("\n".join(map(json.dumps, golden)))
    collection = project.declare(stages=[STAGE], golden={"labels": "golden.jsonl"})
    found = {}
    with project.instance() as instance:
        for day, names in ((DAY, ""), (NEXT, LATEST)):
            monkeypatch.setenv(OPT_IN, names)
            assert project.execute(instance, collection, "notes", **{"dagster/partition": day}).success
            (partition,) = [each for each in collector.named("partition") if each["ai_assets.partition"] == day]
            found[day] = [told for name, told in partition.events if name == "gen_ai.evaluation.result"]
    assert found[DAY] == []
    (accuracy,) = [
        told
        for told in found[NEXT]
        if (told["gen_ai.evaluation.name"], told["ai_assets.evaluation.scope"]) == ("accuracy", "partition")
    ]
    assert 0 <= accuracy["gen_ai.evaluation.score.value"] <= 1
    assert accuracy["ai_assets.stage"] == STAGE["name"]
    assert f"{NEXT}/1.txt" not in str(found)


def test_what_was_said_goes_along_only_where_it_is_asked_for_and_never_with_a_secret(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", SECRET)
    asked(sqlite(project), quick, [question(f"ornithorhynchus {SECRET}")])
    assert collector.named("chat")
    assert not [body for body in collector.bodies if b"ornithorhynchus" in body or SECRET.encode() in body]
    monkeypatch.setenv(CONTENT, "true")
    asked(sqlite(project), quick, [question(f"platypus {SECRET}")])
    assert [body for body in collector.bodies if b"platypus" in body]
    assert not [body for body in collector.bodies if SECRET.encode() in body]
    attempt = collector.named("chat")[-1]
    assert json.loads(attempt["gen_ai.prompt"])[-1]["role"] == "user"
    assert attempt["gen_ai.completion"]


# What servers are told


def test_each_request_says_which_attempt_it_leaves_from(
    project: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as server:  # any server that shows headers will do
        server.status = 404
        fake: Any = type("Server", (), {"url": f"{server.url}/v1"})
        asked(sqlite(project), fake, [question(1)])
        monkeypatch.setenv("OTEL_PROPAGATORS", "none")
        asked(sqlite(project), fake, [question(2)])
    with_it = [each["traceparent"] for each in server.headers if "traceparent" in each]
    first = collector.named("chat")[0]
    assert with_it == [f"00-{first.trace_id}-{first.span_id}-01"]
    assert server.requests == 2


def test_a_trace_that_is_not_sampled_sends_no_spans_and_is_still_counted(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    asked(sqlite(project), quick, questions(3))
    assert not collector.spans
    assert collector.total("ai_assets.attempts") == 3


@pytest.mark.parametrize(
    "given",
    ["", "00-0-0-01", PARENT + "x", PARENT[:-1], "ff" + PARENT[2:], f"00-{0:032x}-b7ad6b7169203331-01"],
)  # fmt: skip
def test_a_parent_that_the_standard_does_not_know_is_none(given: str) -> None:
    assert parsed(given) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_trace_context_survives_its_header(trace_id: int, span_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id=trace_id, span_id=span_id, is_sampled=sampled)
    assert parsed(context.traceparent) == context


# Encoding


VALUES = st.one_of(
    st.text(max_size=200), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.lists(st.text(max_size=9), max_size=3).map(tuple),
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=8), st.text(max_size=30))
def test_our_bytes_are_the_bytes_of_the_sdk(attributes: dict[str, Any], name: str) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    ours = EndedSpan(name, 5, 6, 7, 10**18, 10**18 + 9, "client", attributes)
    context = [SpanContext(5, number, False, TraceFlags(1)) for number in (6, 7)]
    theirs = ReadableSpan(
        name, context=context[0], parent=context[1], resource=Resource({}), attributes=attributes, kind=SpanKind.CLIENT,
        start_time=10**18, end_time=10**18 + 9,
    )  # fmt: skip
    (found,) = spans_in(span_encoding.request(b"", b"", [span_encoding.encoded(ours)]))
    (expected,) = spans_in(encode_spans([theirs]).SerializeToString())
    assert found == expected


def test_modules_of_opentelemetry_are_nothing_that_garbage_is_looked_for_in() -> None:
    program = "import gc, ai_assets.telemetry.exporting; print(gc.get_freeze_count())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 20_000


# A collector that is no help


@pytest.mark.parametrize(
    "trouble",
    ["down", "hangs", pytest.param("500", marks=pytest.mark.slow), pytest.param("no address", marks=pytest.mark.slow)],
)
def test_a_collector_in_trouble_is_said_once_and_changes_nothing_of_the_run(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(opening, "CLOSE_S", 0.5)
    match trouble:
        case "down":
            monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
        case "500":
            collector.status = 500
        case "hangs":
            collector.delay_s = 60
        case _:
            monkeypatch.setenv(ENDPOINT, "not an address")
    declare(project.root, quick.url)
    project.documents(2, days=1)
    collection = project.declare(stages=[BRIEF])
    with project.instance() as instance:
        done = project.execute(instance, collection, "notes", **{"dagster/partition": DAY})
        warned = [log.user_message for log in instance.all_logs(done.run_id) if log.level == 30]
    assert done.success
    said = [line for line in warned if "collector of telemetry" in line]
    assert len(said) == 1, warned
    assert "Nothing else is affected" in said[0]
    assert rows(sqlite(project), "SELECT count(*) AS n FROM attempts WHERE state = 'settled'")[0].n == 2
    check_books(sqlite(project))


def test_a_slow_collector_gets_what_fits_and_the_rest_is_dropped_and_said(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    collector.delay_s = 0.3
    results, said = asked(sqlite(project), quick, questions(40))
    assert all(isinstance(each, Answer) for each in results)
    assert 0 < len(collector.spans) < 80
    assert len(said) == 1
    assert "slower than" in said[0] or "not taken everything" in said[0]


def test_another_protocol_than_ours_is_one_sentence(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    said: list[str] = []
    assert opening.of_run(run_id="run", tenant="", tags={}, report=said.append) is None
    assert said == [
        "No telemetry is sent: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', and only http/protobuf is spoken here. "
        "Set it so, with the collector's port for HTTP"
    ]


@pytest.mark.parametrize(
    "off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}]
)
def test_the_standards_switches_switch_it_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, off: Mapping[str, str]
) -> None:
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    assert opening.of_run(run_id="run", tenant="", tags={}, report=print) is None


def test_headers_compression_and_names_of_the_standards_variables_count(
    project: Project, quick: Provider, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pipelines")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    asked(sqlite(project), quick, [question(1)])
    assert {each["x-key"] for each in collector.headers} == {"abc"}
    assert {each["content-encoding"] for each in collector.headers} == {"gzip"}
    resource = collector.spans[0].resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("pipelines", "test")


# Off


PROGRAM = """
import sys
import definitions
from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.instance import instance
from pathlib import Path
collection = load_collection(Path("collections"), "notes")
with instance(Home.from_environment()) as opened:
    done = collection_definitions(collection).resolve_job_def("notes").execute_in_process(
        instance=opened, tags={"dagster/partition": "2026-10-05"})
print(done.success, sorted(each for each in sys.modules if each.startswith(("opentelemetry", "openlineage"))))
"""


@pytest.mark.slow
def test_without_an_endpoint_a_run_imports_nothing_of_it(project: Project) -> None:
    project.documents(1, days=1)
    project.declare()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=project.root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "True []", done.stderr[-2000:]


# Killed


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_tells_goes_on_like_any_other(
    project: Project, quick: Provider, collector: Collector
) -> None:
    quick.configure(latency_ms=1500)
    declare(project.root, quick.url, limits={"concurrency": 4})
    project.documents(40, days=1)
    project.declare(stages=[BRIEF])
    command = [sys.executable, "-c", "from ai_assets.cli import main; main()", "run", "notes", "--partition", DAY]
    environment = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    process = subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    eventually(lambda: len(collector.named("call")) > 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = rows(sqlite(project), "SELECT count(*) AS n FROM attempts WHERE state = 'settled'")[0].n
    assert 0 < before < 40
    quick.configure(latency_ms=0)
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_books(sqlite(project))
    reused = [call for call in collector.named("call") if call.attributes.get("ai_assets.call.reused")]
    assert len(reused) >= before


# The doctor


def test_the_doctor_says_whether_the_collector_is_reached(
    project: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_assets.doctor.installation import Installation
    from ai_assets.doctor.outside_listeners import look

    def found() -> list[tuple[str, str]]:
        return [(each.looked_at, each.level) for each in look(Installation(home=project.home))]

    assert found() == [("telemetry (spans)", "ok"), ("telemetry (metrics)", "ok"), ("lineage", "ok")]
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE_URL", "nonsense")
    assert found() == [("telemetry (spans)", "warning"), ("telemetry (metrics)", "warning"), ("lineage", "warning")]
    assert not collector.requests, "nothing is posted"
