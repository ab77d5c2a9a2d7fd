"""Claims about deploy/observability, tried by Prometheus itself: it reads the files as they are, each alert comes when
it should and is silent when it should be, and a real desk is scraped with the shipped settings."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import STAGE, Project, eventually, free_port
from desks import PLAIN, desk
from prometheus_client.parser import text_string_to_metric_families
from provider import Provider
from spent import LOST, Spending
from test_observability import ALERTS, FOLDER, expressions, names_in

from ai_assets.ops.dagster_client import answers

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-thirty-two-characters"
START_S, SCRAPE_S = 60.0, 60.0
DESKS = ("desk-a:3001", "desk-b:3001")
"""Both tell the same, and an alert must come once."""


@dataclass(frozen=True, kw_only=True)
class Firing:
    """Series of one desk, a minute between two values, and what an alert says of them after so many minutes."""

    series: Mapping[str, str]
    minutes: int
    says: str
    labels: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str]
    """Series that come near, and of which it says nothing at that time."""


ENDPOINT = '{tenant="legal", endpoint="mini"'
ATTEMPTS = f"ai_assets_recent_attempts{ENDPOINT}, class="
OF_ENDPOINT = {"tenant": "legal", "endpoint": "mini"}
FIRINGS = {
    "DeskDown": Firing(
        series={"up{": "0x10"}, minutes=6, says="The desk does not answer, or cannot reach its state store.",
        silent={"up{": "0x3 1x10"},
    ),
    "DaemonSilent": Firing(
        series={'ai_assets_daemon_heartbeat_age_seconds{daemon="SENSOR"': "0+60x20"}, minutes=12,
        says="Dagster's daemon SENSOR has given no sign of life for five minutes.", labels={"daemon": "SENSOR"},
        silent={'ai_assets_daemon_heartbeat_age_seconds{daemon="SENSOR"': "30x20"},
    ),
    "DagsterUnreachable": Firing(
        series={"ai_assets_dagster_up{": "0x20"}, minutes=11,
        says="The desk does not reach Dagster's pages, so nobody can start runs from it.",
        silent={"ai_assets_dagster_up{": "0x8 1x12"},
    ),
    "RunsQueue": Firing(
        series={'ai_assets_runs{status="queued"': "21x40"}, minutes=35, labels={"status": "queued"},
        says="More than 20 runs have been queued for half an hour.",
        silent={'ai_assets_runs{status="queued"': "21x20 3 21x20"},
    ),
    "RunsFail": Firing(
        series={"ai_assets_runs_failed_recently{": "6x5"}, minutes=2, says="6 runs failed within a day.",
        silent={"ai_assets_runs_failed_recently{": "5x5"},
    ),
    "ReviewsOverdue": Firing(
        series={'ai_assets_reviews_overdue{tenant="legal", collection="notes", step="escalation"': "2x5"}, minutes=2,
        says="2 requests of notes are older than its deadline.",
        labels={"tenant": "legal", "collection": "notes", "step": "escalation"},
        silent={'ai_assets_reviews_overdue{tenant="legal", collection="notes", step="reminder"': "2x5"},
    ),
    "PartitionsStayDue": Firing(
        series={'ai_assets_partitions_due{tenant="legal", collection="notes"': "3x1500"}, minutes=1450,
        says="Partitions of notes have been due for a day, and no run has changed that.",
        labels={"tenant": "legal", "collection": "notes"},
        silent={'ai_assets_partitions_due{tenant="legal", collection="notes"': "3x700 0 3x800"},
    ),
    "BudgetAlmostUsed": Firing(
        series={
            'ai_assets_budget_left_dollars{tenant="legal", budget="month", holder="legal"': "4x5",
            'ai_assets_budget_limit_dollars{tenant="legal", budget="month", holder="legal"': "50x5",
        },
        minutes=2, says="Less than a tenth of the budget month legal is left.",
        labels={"tenant": "legal", "budget": "month", "holder": "legal"},
        silent={
            'ai_assets_budget_left_dollars{tenant="legal", budget="month", holder="legal"': "0x5",
            'ai_assets_budget_limit_dollars{tenant="legal", budget="month", holder="legal"': "0x5",
        },
    ),
    "MaybeBilled": Firing(
        series={f"ai_assets_maybe_billed_dollars{ENDPOINT}": "11x1500"}, minutes=1450, labels=OF_ENDPOINT,
        says="More than 10 dollars at mini may have been billed, and nobody has said whether they were.",
        silent={f"ai_assets_maybe_billed_dollars{ENDPOINT}": "11x1400 0x100"},
    ),
    "PaidTwice": Firing(
        series={f'{ATTEMPTS}"paid_twice"': "1x5"}, minutes=2, says="Answers of mini were paid for twice.",
        labels={**OF_ENDPOINT, "class": "paid_twice"}, silent={f'{ATTEMPTS}"paid"': "900x5"},
    ),
    "EndpointLeftAlone": Firing(
        series={'ai_assets_endpoint_breaker_open{endpoint="mini"': "1x20"}, minutes=11, labels={"endpoint": "mini"},
        says="The endpoint mini has failed for ten minutes, and is only probed.",
        silent={'ai_assets_endpoint_breaker_open{endpoint="mini"': "1x8 0 1x12"},
    ),
    "Throttled": Firing(
        series={f'{ATTEMPTS}"throttled"': "30x30", f'{ATTEMPTS}"paid"': "70x30"}, minutes=16, labels=OF_ENDPOINT,
        says="More than a fifth of the attempts at mini are refused for coming too fast.",
        silent={f'{ATTEMPTS}"throttled"': "30x30", f'{ATTEMPTS}"paid"': "130x30"},
    ),
    "CallsFail": Firing(
        series={f'{ATTEMPTS}"failed"': "11x30", f'{ATTEMPTS}"paid"': "80x30"}, minutes=16, labels=OF_ENDPOINT,
        says="More than a tenth of the attempts at mini fail; ai_assets_recent_errors says why.",
        silent={f'{ATTEMPTS}"failed"': "11x30", f'{ATTEMPTS}"paid"': "120x30"},
    ),
    "CheckpointOld": Firing(
        series={
            "ai_assets_audit_checkpoint_age_seconds{": "21700x5", "ai_assets_audit_records{": "12x5",
            "ai_assets_audit_checkpoint_records{": "9x5",
        },
        minutes=2, says="The audit chain has records that no checkpoint of the last six hours covers.",
        silent={
            "ai_assets_audit_checkpoint_age_seconds{": "21700x5", "ai_assets_audit_records{": "12x5",
            "ai_assets_audit_checkpoint_records{": "12x5",
        },
    ),
    "DiskAlmostFull": Firing(
        series={"ai_assets_disk_free_bytes{": "9x20", "ai_assets_disk_size_bytes{": "100x20"}, minutes=16,
        says="Less than a tenth of the disk of the home is free.",
        silent={"ai_assets_disk_free_bytes{": "11x20", "ai_assets_disk_size_bytes{": "100x20"},
    ),
    "MetricCut": Firing(
        series={'ai_assets_series_left_out{metric="partitions"': "4x5"}, minutes=2, labels={"metric": "partitions"},
        says="partitions has more series than are exported.",
        silent={'ai_assets_series_left_out{metric="partitions"': "0x5"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed(skip_loudly: Callable[[str], None]) -> None:
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        skip_loudly("Prometheus is not installed (apt-get install prometheus): it read no rules and scraped no desk")


def rules() -> dict[str, Any]:
    return {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}


def seen_by_two_desks(series: Mapping[str, str]) -> list[dict[str, str]]:
    found = []
    for begun, values in series.items():
        comma = "" if begun.endswith("{") else ", "
        found += [
            {"series": f'{begun}{comma}job="ai-assets-desk", instance="{one}"}}', "values": values} for one in DESKS
        ]
    return found


def expected(name: str, firing: Firing) -> list[dict[str, Any]]:
    rule = rules()[name]
    labels = {**rule["labels"], "job": "ai-assets-desk", **firing.labels}
    if name in ("Throttled", "CallsFail"):
        del labels["job"]  # a share of a tenant and an endpoint
    instances: list[dict[str, str]] = [{"instance": one} for one in DESKS] if name == "DeskDown" else [{}]
    annotations = {**rule["annotations"], "summary": firing.says}
    return [{"exp_labels": {**labels, **instance}, "exp_annotations": annotations} for instance in instances]


def tried(tests: Sequence[Mapping[str, Any]], alerts: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "alerts.yaml").write_text(alerts)
    cases = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": list(tests)}
    (folder / "cases.yaml").write_text(yaml.safe_dump(cases))
    return subprocess.run(
        ["promtool", "test", "rules", "cases.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_each_alert_is_tried() -> None:
    assert set(FIRINGS) == set(rules())


def test_alerts_come_once_and_in_time(tmp_path: Path) -> None:
    tests = [
        {
            "interval": "1m", "input_series": seen_by_two_desks(series), "name": f"{name} {said}",
            "alert_rule_test": [{"eval_time": f"{firing.minutes}m", "alertname": name, "exp_alerts": alerts}],
        }
        for name, firing in FIRINGS.items()
        for said, series, alerts in (
            ("comes", firing.series, expected(name, firing)), ("is silent", firing.silent, []),
        )
    ]  # fmt: skip
    done = tried(tests, (FOLDER / "alerts.yaml").read_text(), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_does_not_come_would_be_found(tmp_path: Path) -> None:
    """Of the test above: a threshold that is twice as high fails it."""
    text = (FOLDER / "alerts.yaml").read_text()
    assert "(ai_assets_runs_failed_recently) > 5" in text
    changed = text.replace("(ai_assets_runs_failed_recently) > 5", "(ai_assets_runs_failed_recently) > 10")
    firing = FIRINGS["RunsFail"]
    case = {
        "interval": "1m", "input_series": seen_by_two_desks(firing.series),
        "alert_rule_test": [{"eval_time": "2m", "alertname": "RunsFail", "exp_alerts": expected("RunsFail", firing)}],
    }  # fmt: skip
    done = tried([case], changed, tmp_path)
    assert done.returncode == 1, done.stdout
    assert "RunsFail" in done.stdout + done.stderr


@contextmanager
def prometheus(folder: Path, target: str, token: str) -> Iterator[str]:
    """With the shipped scrape and rules; only the desk, the file of the token and the pace are those of the test."""
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    shutil.copy(FOLDER / "alerts.yaml", folder)
    settings = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    (scrape,) = settings["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(folder / "token")
    scrape["static_configs"] = [{"targets": [target]}]
    scrape |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    settings |= {"rule_files": ["alerts.yaml"], "global": {"evaluation_interval": "1s"}}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], check=True, capture_output=True)
    url = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={url}"],
            stdout=log, stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    try:
        eventually(
            lambda: process.poll() is None and answers(f"http://{url}/-/ready"),
            START_S,
            said=(folder / "log").read_text,
        )
        yield f"http://{url}"
    finally:
        process.kill()
        process.wait()


def asked(url: str, expression: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{url}/api/v1/query", params={"query": expression}, **PLAIN).json()
    assert found["status"] == "success", (expression, found)
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def for_everything(expression: str) -> str:
    """As Grafana asks it with nothing chosen; a variable's query asks for values of a label."""
    bare = expression.removeprefix("label_values(").rpartition(",")[0] if "label_values" in expression else expression
    return bare.replace("$tenant", ".*").replace("$collection", ".*")


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Three requests that wait, and calls that were answered, refused, and lost."""
    project.documents(per_day=2)
    project.refresh(project.declare(stages=[dict(STAGE)]))
    spending = Spending(project=project, provider=provider)
    spending.declare("reports")
    spending.ask("a.txt", "b.txt")
    spending.ask("a.txt", run_id="run-again")
    spending.lose(LOST)
    return project


def test_a_desk_is_scraped_and_every_expression_answers(office: Project, tmp_path: Path) -> None:
    with (
        desk(office, AI_ASSETS_METRICS_TOKEN=TOKEN) as running,
        prometheus(tmp_path, f"127.0.0.1:{running.port}", TOKEN) as url,
    ):
        eventually(lambda: asked(url, "up == 1"), SCRAPE_S, said=lambda: targets(url))
        eventually(
            lambda: asked(url, "ai_assets_partitions"), SCRAPE_S, said=lambda: targets(url)
        )  # found beside a scrape
        told = httpx.get(f"{running.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}, **PLAIN).text
        exported = {sample.name for each in text_string_to_metric_families(told) for sample in each.samples}
        assert len(exported) > 25
        eventually(lambda: all(asked(url, name) for name in exported), SCRAPE_S, said=lambda: exported)
        (waiting,) = asked(url, 'ai_assets_reviews_waiting{collection="notes"}')
        assert int(waiting["value"][1]) == 3
        shown = [
            for_everything(expression)
            for where, expression in expressions()
            if where not in rules() and set(names_in(expression)) <= exported
        ]
        assert len(shown) > 25
        eventually(
            lambda: all(asked(url, expression) for expression in shown), SCRAPE_S, said=lambda: unanswered(url, shown)
        )
        loaded = httpx.get(f"{url}/api/v1/rules", **PLAIN).json()["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in loaded for rule in group["rules"]}
        assert health == dict.fromkeys(FIRINGS, "ok")


def test_a_wrong_token_shows_as_a_desk_that_is_down(project: Project, tmp_path: Path) -> None:
    with (
        desk(project, AI_ASSETS_METRICS_TOKEN=TOKEN) as running,
        prometheus(tmp_path, f"127.0.0.1:{running.port}", "another-token-of-as-many-letters") as url,
    ):
        eventually(lambda: asked(url, "up == 0"), SCRAPE_S, said=lambda: targets(url))
        assert "401" in targets(url)
        eventually(
            lambda: asked(url, 'ALERTS{alertname="DeskDown", alertstate="pending"}'),
            SCRAPE_S,
            said=lambda: targets(url),
        )


def unanswered(url: str, shown: Sequence[str]) -> list[str]:
    return [expression for expression in shown if not asked(url, expression)]


def targets(url: str) -> str:
    return json.dumps(httpx.get(f"{url}/api/v1/targets", **PLAIN).json()["data"]["activeTargets"])
