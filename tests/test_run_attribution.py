"""Claims about Dagster's pages behind a proxy: a real `ai-assets up`, and requests as a proxy sends them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Project, eventually, free_port, project_at
from signing import current

from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.orchestration.instance import write_instance_file
from ai_assets.signoff import requests
from ai_assets.signoff.launches import TICKET_TAG, Launch

pytestmark = pytest.mark.slow

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
PROXY = {"sign_in": {"proxy": {"addresses": ["127.0.0.1"]}}}
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def declared(home_desk: Path, settings: dict[str, Any]) -> None:
    home_desk.write_text(yaml.safe_dump(settings))


def test_only_where_a_proxy_is_declared_dagster_s_own_queue_is_replaced(project: Project) -> None:
    def coordinator() -> Any:
        write_instance_file(project.home)
        found = yaml.safe_load((project.home.dagster / "dagster.yaml").read_text())
        return found.get("run_coordinator", {}).get("class"), "run_queue" in found

    assert coordinator() == (None, True)
    project.home.desk.write_text("colour: green\n")
    assert coordinator() == (None, True)
    declared(project.home.desk, PROXY)
    assert coordinator() == ("AttributingRunCoordinator", False)
    with project.instance() as opened:
        limits = opened.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert type(opened.run_coordinator).__name__ == "AttributingRunCoordinator"


class Office:
    def __init__(self, project: Project, port: int) -> None:
        self.project = project
        self.api = DagsterApi(f"http://127.0.0.1:{port}")

    def launched(self, headers: dict[str, str], *, source: str = "127.0.0.1", config: Any = None, **tags: str) -> str:
        """A click in Dagster's page, as the proxy passes it on."""
        selector = {"repositoryLocationName": "definitions", "repositoryName": "__repository__", "jobName": "notes"}
        span = {RANGE_START: DAYS[0], RANGE_END: DAYS[0], **tags}
        params = {
            "selector": selector,
            "runConfigData": config or {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in span.items()]},
        }
        with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=300) as browser:
            body = {"query": LAUNCH, "variables": {"params": params}}
            answer = browser.post(f"{self.api.url}/graphql", json=body, headers=headers).json()
        run_id = str(answer["data"]["launchRun"]["run"]["runId"])
        eventually(lambda: self.api.run_status(run_id) in ("SUCCESS", "FAILURE"), 120)
        assert self.api.run_status(run_id) == "SUCCESS"
        return run_id

    def author(self) -> Launch:
        return requests.launch_of(current(self.project.stores().state, DAYS[0]))

    def another_text(self, text: str) -> None:
        self.project.document(f"{DAYS[0]}/0.txt", text)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("office"), patch)
        project.documents(per_day=1)
        project.declare()
        declared(project.home.desk, PROXY)
        port, said = free_port(), project.root / "up.txt"
        command = [Path(sys.executable).parent / "ai-assets", "up", "--no-first-run"]
        with said.open("wb") as output:
            up = subprocess.Popen(
                [*command, "--port", str(port), "--desk-port", str(free_port())], cwd=project.root,
                env={**os.environ}, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            eventually(lambda: "Stop it with Ctrl-C" in said.read_text() or up.poll() is not None, 180)
            assert up.poll() is None, said.read_text()
            office = Office(project, port)
            with office.api:
                yield office
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)


@pytest.mark.slow
def test_whom_the_proxy_names_is_the_known_author_of_a_run_from_dagster_s_pages(office: Office) -> None:
    run_id = office.launched({"X-Forwarded-User": "Ann", "X-Forwarded-For": "203.0.113.7"})
    assert office.author().in_words == "ann, in Dagster, as the proxy in front of it says"
    (run,) = [run for run in office.api.runs("notes", 5) if run.run_id == run_id]
    office.another_text("Somebody copies her ticket into the launchpad.")
    office.launched({}, **{TICKET_TAG: run.tags[TICKET_TAG]})
    assert "somebody started it again in Dagster" in office.author().why
    office.another_text("Ben starts it again, through the proxy.")
    office.launched({"X-Forwarded-User": "ben"}, **{TICKET_TAG: run.tags[TICKET_TAG]})
    assert office.author().who == "ben"


@pytest.mark.slow
def test_from_anywhere_else_the_header_says_nothing(office: Office) -> None:
    office.another_text("From another address.")
    office.launched({"X-Forwarded-User": "ann"}, source="127.0.0.2")
    assert not office.author().known
    office.another_text("From another address, which claims to be the proxy.")
    office.launched({"X-Forwarded-User": "ann", "X-Forwarded-For": "127.0.0.1"}, source="127.0.0.2")
    assert not office.author().known
    office.another_text("With the name twice over.")
    office.launched({"X-Forwarded-User": "ai-assets"})  # nobody may have that name
    assert not office.author().known


@pytest.mark.slow
def test_run_config_makes_whoever_typed_it_an_author(office: Office) -> None:
    office.another_text("With a configuration.")
    office.launched({"X-Forwarded-User": "ann"}, config={"ops": {"notes__segment": {}}})
    assert office.author().changes == ("run config",)
