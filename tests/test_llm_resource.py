"""Claims about `LLMResource` in real Dagster runs: what the ledger counts is what the provider was asked, to the call.

The situations are those in which counting beside the calls goes wrong: clients wrapped twice, shared, dropped with a
failed step, copied to every partition, or not wrapped at all.
"""

import asyncio
import base64
import importlib
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from conftest import REPOSITORY, Project
from engines import declare
from http_servers import scripted
from provider import Provider
from pydantic import BaseModel, Field, model_validator

from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.records import BACKFILL_TAG, Answer, Caller, Request, Unanswered
from ai_assets.inference.spend import Spend, numbers, spend
from ai_assets.orchestration.llm_resource import LLMResource
from ai_assets.orchestration.typed_output import ImageUnusable, NoAnswer
from ai_assets.storage.state import StateStore

SCHEMA = {
    "type": "object",
    "properties": {"due": {"type": "string"}},
    "required": ["due"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def started() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(started: Provider, project: Project) -> Provider:
    """Asked for nothing yet, and the only endpoint of the project."""
    started.reset()
    endpoint = {
        "base_url": started.url,
        "model": "rehearsal-mini",
        "prices": [{"from": "2026-01-01", "input": 0.15, "output": 0.6}],
    }
    declared = {"endpoints": {"mini": endpoint}, "routes": {"default": {"endpoints": ["mini"]}}}
    (project.root / "inference.yaml").write_text(yaml.safe_dump(declared))
    return started


def questions(number: int, about: str = "the pump") -> list[str]:
    return [f"Question {place} on {about}: is it due?" for place in range(number)]


def execute(*assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(assets, resources={"llm": LLMResource()}, raise_on_error=False, **options)


def ledger(project: Project, **scope: str) -> Spend:
    with StateStore(project.home.state_url).read() as connection:
        return spend(connection, **scope)


def count(project: Project, of: str) -> int:
    with StateStore(project.home.state_url).read() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {of}")).scalar_one())  # noqa: S608


def agree(project: Project, provider: Provider, calls: int) -> None:
    """Ledger and provider tell of as many calls, and of the same tokens and dollars."""
    found, stats = ledger(project), provider.stats()
    tokens = stats["tokens"]
    assert (found.attempts, stats["calls"], stats["billed"]) == (calls, calls, calls)
    assert (found.input_tokens, found.output_tokens) == (tokens["input"], tokens["output"])
    assert found.cost_usd == pytest.approx(stats["billed_usd"], abs=1e-9 * calls)


def test_ten_calls_in_a_loop_are_ten_calls(project: Project, provider: Provider) -> None:
    @dg.asset
    def notes(llm: LLMResource) -> dg.MaterializeResult:
        for question in questions(10):
            llm.call(question)
        return dg.MaterializeResult(metadata=llm.metadata())

    result = execute(notes)
    assert result.success
    agree(project, provider, 10)
    (event,) = result.asset_materializations_for_node("notes")
    assert event.metadata["calls"].value == 10
    assert event.metadata["input_tokens"].value == provider.stats()["tokens"]["input"]


def test_the_calls_of_a_run_with_a_backfills_tag_are_held_to_it(project: Project, provider: Provider) -> None:
    @dg.asset
    def notes(llm: LLMResource) -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(llm.call, "asked outside of the step's thread").result()

    tagged = execute(notes, tags={BACKFILL_TAG: "ended-1"})
    assert not tagged.success
    (failure,) = (event for event in tagged.all_events if event.is_step_failure)
    assert "Backfill ended-1 is over or at its cap" in str(failure.step_failure_data.error)
    assert execute(notes).success
    agree(project, provider, 1)


def test_two_assets_of_a_run_share_an_engine_and_are_told_apart(project: Project, provider: Provider) -> None:
    @dg.asset
    def first(llm: LLMResource) -> None:
        list(llm.map(questions(3)))

    @dg.asset(deps=[first], key_prefix=["mail", "inbox"])
    def second(llm: LLMResource) -> None:
        list(llm.map(questions(4, "the invoice")))

    result = execute(first, second)
    assert result.success
    agree(project, provider, 7)
    assert ledger(project, collection="", asset="first", run_id=result.run_id).calls == 3
    assert ledger(project, collection="mail/inbox", asset="second", run_id=result.run_id).calls == 4
    assert count(project, "owners") == 1


def test_the_engine_ends_with_the_run(project: Project, provider: Provider) -> None:
    @dg.asset
    def notes(llm: LLMResource) -> None:
        llm.call("Is it due?")
        assert "inference" in {thread.name for thread in threading.enumerate()}

    assert execute(notes).success
    assert "inference" not in {thread.name for thread in threading.enumerate()}
    assert count(project, "leases") == 0


TWO_PROCESSES = """
import dagster as dg
from ai_assets.orchestration.llm_resource import LLMResource
from ai_assets.orchestration.typed_output import ImageUnusable, NoAnswer

@dg.asset
def first(llm: LLMResource) -> None:
    list(llm.map(f"Question {place} on the pump" for place in range(3)))

@dg.asset
def second(llm: LLMResource) -> None:
    list(llm.map(f"Question {place} on the pump" for place in range(5)))

def job() -> dg.JobDefinition:
    resources = {"llm": LLMResource()}
    both = dg.define_asset_job("both", executor_def=dg.multiprocess_executor)
    return dg.Definitions([first, second], jobs=[both], resources=resources).resolve_job_def("both")
"""


@pytest.mark.slow
def test_steps_in_processes_of_their_own_ask_each_question_once(
    project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "two_processes.py").write_text(TWO_PROCESSES)
    monkeypatch.syspath_prepend(project.root)
    job = dg.reconstructable(importlib.import_module("two_processes").job)
    with project.instance() as instance, dg.execute_job(job, instance=instance) as result:
        assert result.success
    agree(project, provider, 5)
    assert ledger(project).reused == 3
    assert count(project, "owners") == 2
    assert count(project, "leases") == 0


@pytest.mark.parametrize(("second_about", "calls", "reused"), [("the pump", 3, 3), ("the leak", 6, 0)])
def test_a_retried_step_keeps_what_it_had_and_pays_only_for_what_is_new(
    project: Project, provider: Provider, second_about: str, calls: int, reused: int
) -> None:
    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def notes(context: dg.AssetExecutionContext, llm: LLMResource) -> dg.MaterializeResult:
        list(llm.map(questions(3, second_about if context.retry_number else "the pump")))
        if not context.retry_number:
            raise ValueError("something else went wrong")
        return dg.MaterializeResult(metadata=llm.metadata())

    result = execute(notes)
    assert result.success
    agree(project, provider, calls)
    (event,) = result.asset_materializations_for_node("notes")
    assert event.metadata["calls"].value == calls
    assert event.metadata["answers_reused"].value == reused


def test_a_step_that_fails_for_good_has_its_calls_in_the_ledger(project: Project, provider: Provider) -> None:
    @dg.asset
    def notes(llm: LLMResource) -> None:
        list(llm.map(questions(3)))
        raise ValueError("something else went wrong")

    result = execute(notes)
    assert not result.success
    agree(project, provider, 3)
    assert ledger(project, asset="notes", run_id=result.run_id).calls == 3


def test_each_partition_of_one_step_has_its_own_calls_and_no_others(project: Project, provider: Provider) -> None:
    days = dg.StaticPartitionsDefinition([f"day-{number}" for number in range(5)])

    @dg.multi_asset(
        specs=[dg.AssetSpec("notes", partitions_def=days, skippable=True)],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def notes(context: dg.AssetExecutionContext, llm: LLMResource) -> Iterator[dg.AssetMaterialization]:
        for day in context.partition_keys:
            list(llm.map(questions(1, day), partition=day))
            yield dg.AssetMaterialization("notes", partition=day, metadata=llm.metadata(partition=day))

    range_of = {"dagster/asset_partition_range_start": "day-0", "dagster/asset_partition_range_end": "day-4"}
    result = execute(notes, tags=range_of)
    assert result.success
    agree(project, provider, 5)
    events = result.asset_materializations_for_node("notes")
    assert [event.metadata["calls"].value for event in events] == [1] * 5
    assert [ledger(project, asset="notes", partition=f"day-{number}").calls for number in range(5)] == [1] * 5


def test_a_partitioned_run_names_its_partition_itself(project: Project, provider: Provider) -> None:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["day-1", "day-2"]))
    def notes(llm: LLMResource) -> dg.MaterializeResult:
        list(llm.map(questions(2)))
        return dg.MaterializeResult(metadata=llm.metadata())

    for day in ("day-1", "day-2"):
        assert execute(notes, partition_key=day).success
    assert ledger(project, asset="notes", partition="day-1").calls == 2
    assert ledger(project, asset="notes", partition="day-2").reused == 2
    agree(project, provider, 2)


def test_a_request_cannot_stream_and_is_counted(project: Project, provider: Provider) -> None:
    with pytest.raises(TypeError, match="stream"):
        Request(messages=(), stream=True)  # type: ignore[call-arg]

    @dg.asset
    def notes(llm: LLMResource) -> None:
        assert isinstance(llm.call(Request(messages=({"role": "user", "content": "Is it due?"},))), Answer)

    assert execute(notes).success
    agree(project, provider, 1)


def test_answers_by_a_schema_are_counted(project: Project, provider: Provider) -> None:
    @dg.asset
    def dues(llm: LLMResource) -> None:
        asked = ({"role": "user", "content": "When is invoice 7 due? It says: due on 3 May."},)
        answer = llm.call(Request(messages=asked, schema=SCHEMA, kind="extract"))
        assert isinstance(answer, Answer)
        assert isinstance(answer.data, dict)
        assert set(answer.data) == {"due"}

    assert execute(dues).success
    agree(project, provider, 1)


def test_calls_of_a_check_belong_to_its_asset(project: Project, provider: Provider) -> None:
    @dg.asset(key_prefix="mail")
    def notes() -> None:
        pass

    @dg.asset_check(asset=notes)
    def readable(llm: LLMResource) -> dg.AssetCheckResult:
        list(llm.map(questions(2)))
        return dg.AssetCheckResult(passed=True, metadata=llm.metadata())

    result = execute(notes, readable)
    assert result.success
    agree(project, provider, 2)
    (event,) = result.get_asset_check_evaluations()
    assert event.metadata["calls"].value == 2
    assert ledger(project, collection="mail", asset="notes", run_id=result.run_id).calls == 2


def test_an_asynchronous_asset_asks_as_a_plain_one_does(project: Project, provider: Provider) -> None:
    @dg.asset
    async def notes(llm: LLMResource) -> dg.MaterializeResult:
        async with asyncio.timeout(30):
            answers = [result async for result in _checked(llm)]
        assert isinstance(await llm.acall("Question 0 on the pump: is it due?"), Answer)
        return dg.MaterializeResult(metadata={**llm.metadata(), "answers": len(answers)})

    async def _checked(llm: LLMResource) -> AsyncIterator[Any]:
        async for result in llm.amap(questions(3)):
            assert isinstance(result, Answer)
            yield result

    result = execute(notes)
    assert result.success
    agree(project, provider, 3)
    (event,) = result.asset_materializations_for_node("notes")
    assert (event.metadata["answers"].value, event.metadata["calls"].value) == (3, 3)
    assert event.metadata["answers_reused"].value == 1


def test_an_op_asks_under_its_own_name_and_a_thread_under_the_run(project: Project, provider: Provider) -> None:
    found: list[Caller] = []

    @dg.op
    def sort_mail(llm: LLMResource) -> None:
        found.append(llm.caller(tenant="legal"))
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(llm.caller).result())

    @dg.job(resource_defs={"llm": LLMResource()})
    def mail() -> None:
        sort_mail()

    result = mail.execute_in_process()
    assert found[0] == Caller(tenant="legal", asset="sort_mail", run_id=result.run_id)
    assert found[1] == Caller(run_id=result.run_id)


def test_an_asset_definition_of_several_assets_says_which(project: Project, provider: Provider) -> None:
    specs = [dg.AssetSpec(["mail", "kind"]), dg.AssetSpec(["mail", "summary"])]

    @dg.multi_asset(specs=specs)
    def both(llm: LLMResource) -> Iterator[dg.MaterializeResult]:
        for asset, number in (("kind", 1), ("summary", 2)):
            list(llm.map(questions(number, asset), asset=asset))
            yield dg.MaterializeResult(["mail", asset], metadata=llm.metadata(asset=asset))
        assert llm.spend().calls == 3

    assert execute(both).success
    assert ledger(project, collection="mail", asset="summary").calls == 2


def test_a_map_says_in_one_line_what_it_came_to(
    project: Project, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    @dg.asset
    def notes(llm: LLMResource) -> None:
        list(llm.map([*questions(3), *questions(1)]))

    assert execute(notes).success
    lines = re.findall(r"notes - (.* answers .*)$", capfd.readouterr().err, re.MULTILINE)
    assert lines == [f"4 answers (1 reused), ${ledger(project).cost_usd:.6f}"]


def test_outside_a_run_nobody_in_particular_asks(project: Project, provider: Provider) -> None:
    (project.root / "plain.py").write_text(
        "from ai_assets.orchestration.llm_resource import LLMResource\n"
        "llm = LLMResource()\n"
        "print(next(llm.map(['Is it due?'])).text, llm.spend().calls, llm.caller())\n"
    )
    result = project_python(project, "plain.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip().endswith(f"1 {Caller()}")
    assert count(project, "leases") == 0


def project_python(project: Project, script: str) -> Any:
    return subprocess.run(
        [sys.executable, script], cwd=project.root, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_text_is_not_taken_for_many_requests(project: Project, provider: Provider) -> None:
    with LLMResource().process_config_and_initialize_cm() as llm, pytest.raises(TypeError, match="write \\[text\\]"):
        llm.map("Is it due?")
    assert provider.stats()["calls"] == 0


def test_a_file_that_is_not_there_is_named(project: Project) -> None:
    with pytest.raises(InferenceInvalid, match=r"models\.yaml: there is no such file"):
        dg.materialize([asking()], resources={"llm": LLMResource(inference="models.yaml")})


def test_another_file_and_tenant_can_be_named(project: Project, provider: Provider) -> None:
    (project.root / "inference.yaml").rename(project.root / "models.yaml")
    resource = LLMResource(inference="models.yaml", tenant="legal")
    assert dg.materialize([asking()], resources={"llm": resource}).success
    assert ledger(project, tenant="legal").calls == 1


def asking() -> dg.AssetsDefinition:
    @dg.asset
    def notes(llm: LLMResource) -> None:
        llm.call("Is it due?")

    return notes


def test_what_is_unknown_has_no_number(project: Project, provider: Provider) -> None:
    provider.script([{"match": "pump", "fault": "context_too_long"}])
    with LLMResource().process_config_and_initialize_cm() as llm:
        assert isinstance(llm.call(questions(1)[0]), Unanswered)
        found = llm.metadata()
    assert "p50_s" not in found
    assert found["errors/context_too_long"] == 1
    assert set(numbers(ledger(project))) == set(found)


def test_the_readme_shows_an_asset_that_runs(
    project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = readme.split("## In your own Dagster project")[1].split("\n## ")[0]
    block = next(code for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if "LLMResource" in code)
    shutil.copy(REPOSITORY / "inference.yaml", project.root)
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
    path = Path(project.root / "summaries.py")
    path.write_text(block)
    defs = runpy.run_path(str(path))["defs"]
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process()
    (event,) = result.asset_materializations_for_node("summaries")
    assert event.metadata["calls"].value == provider.stats()["calls"] == 2


class Due(BaseModel):
    due: str
    amount: int = Field(ge=0)


class Never(BaseModel):
    due: str

    @model_validator(mode="after")
    def _refuse(self) -> "Never":
        raise ValueError("no answer is good enough")


def test_an_answer_is_an_instance_of_a_model_and_is_paid_once(project: Project, provider: Provider) -> None:
    llm = LLMResource()
    first = llm.ask("When is the invoice of the pump due, and how much is it?", output=Due)
    assert isinstance(first, Due)
    assert asyncio.run(llm.aask("When is the invoice of the pump due, and how much is it?", output=Due)) == first
    assert isinstance(llm.ask("Say something about the pump.", system="Be short."), str)
    agree(project, provider, calls=2)


def test_what_does_not_fit_a_model_is_repaired_once_and_then_no_answer(project: Project, provider: Provider) -> None:
    with pytest.raises(NoAnswer, match="no answer is good enough") as caught:
        LLMResource().ask("When is it due?", output=Never)
    assert caught.value.found.error == "invalid_output"
    assert provider.stats()["calls"] == 2


def test_an_image_is_sent_and_is_part_of_the_question(project: Project, provider: Provider, tmp_path: Path) -> None:
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    (tmp_path / "pixel.png").write_bytes(pixel)
    llm = LLMResource()
    from_bytes = llm.ask("What is this?", images=[pixel])
    assert llm.ask("What is this?", images=[tmp_path / "pixel.png"]) == from_bytes
    llm.ask("What is this?")
    agree(project, provider, calls=2)
    with pytest.raises(ImageUnusable, match="neither PNG, JPEG, GIF nor WebP"):
        llm.ask("What is this?", images=[b"not an image"])
    with pytest.raises(ImageUnusable, match="No such file"):
        llm.ask("What is this?", images=[tmp_path / "nowhere.png"])


def test_vectors_are_paid_once(project: Project, provider: Provider) -> None:
    llm = LLMResource()
    one, two = llm.embed(["the pump", "the invoice"])
    assert len(one) == len(two) > 0
    assert llm.embed(["the invoice"]) == [two]
    assert count(project, "calls") == 2
    with pytest.raises(TypeError, match="write \\[text\\]"):
        llm.embed("the pump")


def test_a_vector_of_another_length_than_was_asked_for_is_no_answer(project: Project) -> None:
    def vector(_body: dict[str, Any]) -> dict[str, Any]:
        data = [{"index": 0, "embedding": [0.6, 0.8, 0.0]}]
        return {"data": data, "model": "small", "usage": {"prompt_tokens": 4}}

    with scripted(embeddings=vector) as server:
        declare(project.root, server.url)
        with pytest.raises(NoAnswer, match="its vector has 3 numbers, and 2 are declared"):
            LLMResource().embed(["the pump"], dimensions=2)
