"""Claims about AI_ASSETS_LOG=json: each line of a service is one object, says what it is about, and no secret."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from conftest import DAYS, STAGE, Project
from desks import PLAIN, desk
from provider import Provider
from real_up import up
from test_worker_processes import BRIEF, ROUTES

from ai_assets.base import structured_log
from ai_assets.base.home import LOG_VARIABLE
from ai_assets.base.structured_log import FIELDS, LogFormatUnknown, log_fields, plain_lines
from ai_assets.ops.managed_process import essential_line

SECRET = "sk-a-secret-that-nobody-may-read"
WORD = "ornithorhynchus"
"""Stands in the documents, and so in no log."""
ALWAYS = {"time", "level", "message", "logger", "process", "pid"}
PROGRAM = f"""
import logging, sys, threading, warnings
from ai_assets.base.structured_log import begin, log_fields
begin("program")
log = logging.getLogger("somebody.else")
with log_fields(run="r1", collection="notes", tenant="north"):
    log.warning("the key is %s,\\nand the rest \\x1b[31m", "{SECRET}")
    with log_fields(partition="2026-10-05", stage="kind", call="42"):
        log.error("inside")
    logging.getLogger("ai_assets.x").info("ours is told from info on")
    log.info("others from warning on")
    thread = threading.Thread(target=lambda: log.warning("another thread"))
    thread.start(); thread.join()
    failing = threading.Thread(target=lambda: 1 / 0, name="failing")
    failing.start(); failing.join()
    warnings.warn("careful")
log.warning("after")
raise RuntimeError("over: {SECRET}")
"""


def lines_of(text: str) -> list[dict[str, Any]]:
    """Each line, which must be one object with what all have and nothing but what is declared."""
    found = []
    for line in text.splitlines():
        found.append(json.loads(line))
        assert set(found[-1]) >= ALWAYS, line
        assert set(found[-1]) <= ALWAYS | {"error", *FIELDS}, line
        assert found[-1]["time"].endswith("+00:00"), line
    return found


def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    done = run(PROGRAM, AI_ASSETS_LOG="json", MODEL_API_KEY=SECRET)
    assert (done.returncode, done.stdout) == (1, "")
    assert SECRET not in done.stderr
    return lines_of(done.stderr)


def test_each_line_says_what_it_is_about(told: list[dict[str, Any]]) -> None:
    by_message = {each["message"].partition("\n")[0]: each for each in told}
    assert {name: by_message["inside"][name] for name in FIELDS} == {
        "run": "r1", "collection": "notes", "tenant": "north", "partition": "2026-10-05", "stage": "kind", "call": "42",
    }  # fmt: skip
    outside = by_message["the key is ***,"]
    assert {name for name in FIELDS if name in outside} == {"run", "collection", "tenant"}
    assert not [name for name in FIELDS if name in by_message["after"]]
    assert not [name for name in FIELDS if name in by_message["another thread"]], "a thread has work of its own"
    assert by_message["ours is told from info on"]["level"] == "info"
    assert "others from warning on" not in by_message
    assert {each["process"] for each in told} == {"program"}


def test_what_ends_a_thread_or_the_process_and_what_warns_is_a_line_too(told: list[dict[str, Any]]) -> None:
    *_, failing, warned, _, last = told
    assert failing["message"] == "failing ended: division by zero"
    assert "ZeroDivisionError" in failing["error"]
    assert "careful" in warned["message"]
    assert (last["level"], last["message"]) == ("critical", "over: ***")
    assert "RuntimeError: over: ***" in last["error"]


def test_plain_lines_stay_as_they_were() -> None:
    done = run(PROGRAM, MODEL_API_KEY=SECRET)
    assert done.stderr.splitlines()[0].startswith("the key is")
    assert '{"time"' not in done.stderr


def test_a_format_that_nobody_knows_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_VARIABLE, "xml")
    with pytest.raises(LogFormatUnknown, match="AI_ASSETS_LOG is 'xml'; known are: plain, json"):
        structured_log.begin()
    child = Path(structured_log.__file__).with_name("child_main.py")
    done = subprocess.run(
        [sys.executable, child, str(os.getpid()), "json.tool"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_fields_end_with_their_block_in_tasks_and_generators() -> None:
    def now() -> dict[str, str]:
        return dict(structured_log._fields.get() or {})

    async def task(name: str) -> dict[str, str]:
        with log_fields(call=name):
            await asyncio.sleep(0)
            return now()

    async def both() -> list[dict[str, str]]:
        return list(await asyncio.gather(task("1"), task("2")))

    assert asyncio.run(both()) == [{"call": "1"}, {"call": "2"}]

    def events() -> Any:
        with log_fields(stage="kind", tenant=None):
            yield now()

    made = events()
    assert next(made) == {"stage": "kind"}
    closing = threading.Thread(target=made.close)  # as the garbage collector may
    closing.start()
    closing.join()
    with log_fields(run="r"):
        assert now()["run"] == "r"


def test_the_reason_why_a_service_ended_is_found_in_its_objects() -> None:
    record = logging.LogRecord("x", logging.CRITICAL, "f", 1, "over", (), None)
    record.exc_info = (ValueError, ValueError("no such model"), None)
    line = structured_log.as_json(record)
    assert plain_lines(line) == ["over", "ValueError: no such model"]
    assert essential_line(["started", line]) == "ValueError: no such model"
    assert plain_lines('{"time": broken') == ['{"time": broken']


@pytest.mark.slow
def test_a_desk_of_its_own_logs_objects(project: Project) -> None:
    project.declare(stages=[dict(STAGE)])
    with desk(project, AI_ASSETS_LOG="json") as running:
        assert httpx.get(f"{running.url}/health", **PLAIN).status_code == 200
        found = lines_of(running.log.read_text())
    assert {each["process"] for each in found} == {"desk"}
    assert any("The sign-off desk is at" in each["message"] for each in found)
    busy = subprocess.run(
        [sys.executable, "-m", "ai_assets.desk", "--port", "70000"], cwd=project.root, capture_output=True, text=True,
        check=False, env={**os.environ, "AI_ASSETS_LOG": "json"},
    )  # fmt: skip
    assert busy.returncode == 2


@pytest.mark.slow
def test_every_line_of_what_up_starts_is_an_object(project: Project) -> None:
    """And the desk is ready when all of it is."""
    for number in range(4):
        project.document(
            f"2026-10-{5 + number % 2:02d}/{number}.txt", f"The {WORD} was seen in hall {number}. Total 3."
        )
    project.declare(partitions={**DAYS, "per_run": 2}, stages=[dict(STAGE)], tenant="north")
    (project.root / "operations.yaml").write_text("workers: 2\n")
    with up(project.root, AI_ASSETS_LOG="json", MODEL_API_KEY=SECRET) as running:
        running.says("for sign-off. Look and decide", timeout_s=300)
        url = f"http://127.0.0.1:{running.desk_port}"
        ready = httpx.get(f"{url}/ready", **PLAIN)
        scraped = httpx.get(f"{url}/metrics", **PLAIN)
        logs = {path.name: path.read_text() for path in running.home.logs.glob("*.log")}
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "not_ready": []})
    assert 'ai_assets_reviews_waiting{collection="notes",tenant="north"} 2.0' in scraped.text
    assert "ai_assets_dagster_up 1.0" in scraped.text
    assert "ai_assets_daemon_heartbeat_age_seconds{" in scraped.text
    assert set(logs) >= {"code-server.log", "web-server.log", "daemon.log", "desk.log"}
    found = {name: lines_of(text) for name, text in logs.items()}
    every = [each for lines in found.values() for each in lines]
    assert all(found[name] for name in ("code-server.log", "web-server.log", "daemon.log", "desk.log"))
    assert {each["process"] for each in every} >= {"desk", "daemon", "web server", "code server", "run"}
    of_stage = [each for each in every if each.get("stage") == "kind" and "documents in" in each["message"]]
    assert {each["partition"] for each in of_stage} == {"2026-10-05", "2026-10-06"}
    for each in of_stage:
        assert (each["collection"], each["tenant"], each["process"]) == ("notes", "north", "run")
        assert len(each["run"]) == 36
    of_dagster = [each for each in every if each["message"].startswith("Started execution of step")]
    assert any(each.get("collection") == "notes" and each.get("run") for each in of_dagster), "Dagster's own lines"
    text = "".join(logs.values())
    assert WORD not in text
    assert SECRET not in text


@pytest.mark.slow
def test_further_processes_and_attempts_are_told_of(project: Project, provider: Provider) -> None:
    """Each attempt that failed is a line with its id in the ledger, whatever process made it."""
    (project.root / "inference.yaml").write_text(ROUTES)
    for number in range(16):
        project.document(f"{number}.txt", f"Note no. {number} of the {WORD}. The total due is {number}.00 EUR.")
    project.declare(partitions={"by": "shards", "count": 8}, stages=[BRIEF], tenant="north")
    with provider.lent():
        provider.configure(latency_ms=4000)  # a partition takes longer than a process to start
        rules = [{"match": f"no. {number} of", "fault": "rate_limited", "times": 1} for number in range(16)]
        provider.script(rules)
        done = subprocess.run(
            [Path(sys.executable).with_name("ai-assets"), "run", "notes", "--workers", "2"], cwd=project.root,
            env={**os.environ, "AI_ASSETS_LOG": "json", "MODEL_API_KEY": SECRET}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = lines_of("\n".join(line for line in done.stderr.splitlines() if line.startswith('{"time"')))
    failed = [each for each in told if "did not answer: rate_limited" in each["message"]]
    assert len(failed) == 16
    assert "worker" in {each["process"] for each in failed} <= {"worker", "command"}
    with project.stores().state.read() as connection:
        rows = connection.execute(sa.text(
            "SELECT attempt_id, partition, run_id FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
            "WHERE error = 'rate_limited'"
        )).all()  # fmt: skip
    assert {(each["call"], each["partition"], each["run"]) for each in failed} == {
        (str(row.attempt_id), row.partition, row.run_id) for row in rows
    }
    assert {(each["collection"], each["stage"], each["tenant"]) for each in failed} == {("notes", "brief", "north")}
    assert WORD not in done.stderr
