"""The gallery: each example is small, says how it is elsewhere, and does what it says."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from conftest import WARM
from provider import Provider

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.signoff.sla import advance
from ai_assets.storage.stores import Stores

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "examples" / "gallery"
NAMES = sorted(path.name for path in GALLERY.iterdir() if path.is_dir())
WRITTEN = {".yaml", ".py", ".md", ".json"}
PASSWORD = "a walk in the autumn rain"


def lines_of(name: str) -> int:
    """What somebody wrote: configuration, code and prompts; no documents, no README, no comment."""
    found = 0
    for path in (GALLERY / name).rglob("*"):
        if path.suffix in WRITTEN and path.name != "README.md" and "documents" not in path.parts:
            text = path.read_text(encoding="utf-8").splitlines()
            found += sum(bool(line.strip()) and not line.strip().startswith("#") for line in text)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_small_and_says_how_it_is_elsewhere(name: str) -> None:
    told = (GALLERY / name / "README.md").read_text(encoding="utf-8")
    assert 5 < lines_of(name) <= 60
    assert "```bash\n" in told
    elsewhere = told.partition("## The same elsewhere")[2]
    assert all(f"| {rival} |" in elsewhere for rival in ("plain Dagster", "Airflow", "Temporal", "Prefect"))


def test_the_page_of_the_gallery_lists_each_with_its_length() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    listed = {
        found[1]: int(found[2]) for found in re.finditer(r"\(\.\./examples/gallery/([\w-]+)\).*\| (\d+) \|", page)
    }
    assert listed == {name: lines_of(name) for name in NAMES}


class Example:
    """A copy of an example, a provider to ask, and the command."""

    def __init__(self, folder: Path, provider: Provider, environment: dict[str, str]) -> None:
        self.folder, self.provider, self.environment = folder, provider, environment

    def __call__(self, *arguments: str, code: int = 0, typed: str = "") -> str:
        done = WARM.run(arguments, cwd=self.folder, env=self.environment, timeout_s=300, typed=typed)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        done = WARM.run((*arguments, "--json"), cwd=self.folder, env=self.environment, timeout_s=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ledger(self, question: str) -> list[Any]:
        with self.stores().state.read() as connection:
            return list(connection.execute(sa.text(question)))

    def stores(self) -> Stores:
        return Stores.at(Home(root=self.folder / ".ai-assets", project=self.folder))

    def edit(self, path: str, change: Callable[[dict[str, Any]], None]) -> None:
        file = self.folder / path
        declared = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(declared)
        file.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")

    def killed(self, collection: str, answered: int) -> None:
        """A run of the collection, killed when so many answers are there."""
        command = [Path(sys.executable).with_name("ai-assets"), "run", collection]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while self.provider.stats()["delivered"] < answered:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    folder = tmp_path / "project"
    shutil.copytree(GALLERY / request.param, folder)
    monkeypatch.chdir(folder)
    with Provider(batch_seconds=0.2) as provider:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AI_ASSETS")}
        environment |= {"AI_ASSETS_REHEARSAL_URL": provider.url, "AI_ASSETS_PASSWORD": PASSWORD}
        yield Example(folder, provider, environment)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [name], indirect=True, ids=[name])


EVERY = ("cost", "--by", "document", "--limit", "100")
TOTAL = re.compile(r"Total: (.*)")


@pytest.mark.slow
@of("rag-indexing")
def test_indexed_failed_and_what_it_cost(example: Example) -> None:
    said = example("run", "notes")
    assert "4 documents indexed; 1 quarantined; $0." in TOTAL.search(said)[1]  # type: ignore[index]
    assert "could not be read" in example("explain", "notes", "doors/torn.pdf")


@pytest.mark.slow
@of("nightly-embedding")
def test_batch_costs_half_and_the_run_is_at_two(example: Example) -> None:
    example("run", "tickets", "--wait")
    half = example.json("cost")["totals"]["cost_usd"]
    assert example.provider.stats()["billed_batch"] == 40
    shutil.rmtree(example.folder / ".ai-assets")
    example.edit("collections/tickets/defs.yaml", lambda declared: declared["attributes"]["embedding"].pop("tier"))
    example("run", "tickets")
    assert float(example.json("cost")["totals"]["cost_usd"]) == pytest.approx(2 * float(half))
    assert load_collection(example.folder / "collections", "tickets").settings.schedule.cron == "0 2 * * *"  # type: ignore[union-attr]


@pytest.mark.slow
@of("parallel-classification")
def test_the_cost_of_each_document_adds_up(example: Example) -> None:
    example("run", "tickets")
    found = example.json(*EVERY)
    assert found["lines_in_all"] == 60
    paid = {line["document"]: Decimal(line["cost_usd"]) for line in found["lines"]}
    assert sum(paid.values()) == Decimal(found["totals"]["cost_usd"])
    assert len(paid) == 60


@pytest.mark.slow
@of("resume")
def test_killed_at_fifty_of_a_hundred(example: Example) -> None:
    example.provider.configure(latency_ms=30)
    example.killed("tickets", 50)
    said = example("run", "tickets")
    assert "100 documents indexed" in TOTAL.search(said)[1]  # type: ignore[index]
    billed = example.provider.stats()["billed"]
    assert 100 <= billed <= 104  # the four in flight when it was killed
    in_doubt = example.ledger("SELECT count(*) FROM attempts WHERE state = 'ambiguous'")[0][0]
    assert billed - 100 <= in_doubt <= 4


@pytest.mark.slow
@of("diamond")
def test_an_edited_prompt_is_asked_again_alone(example: Example) -> None:
    collection = load_collection(example.folder / "collections", "tickets")
    assert set(collection.inputs_of("reply")) >= {"facts", "gist"}
    assert {collection.inputs_of(name)[-1] for name in ("facts", "gist")} == {"kind"}
    example("run", "tickets")
    prompt = example.folder / "collections" / "tickets" / "prompts" / "reply.md"
    prompt.write_text(prompt.read_text().replace("version: 1", "version: 2").replace("two friendly", "three kind"))
    before = example.provider.stats()["calls"]
    example("run", "tickets")
    assert example.provider.stats()["calls"] - before == 12


@pytest.mark.slow
@of("clinical-review")
def test_two_doctors_reminders_and_who_it_was(example: Example) -> None:
    for name in ("ada", "bo"):
        role = ("--role", "approver", "--collection", "letters", "--group", "doctors")
        example("reviewers", "add", name, *role, "--password-stdin", typed=PASSWORD)
    example("run", "letters")
    collection = load_collection(example.folder / "collections", "letters")
    with example.stores() as stores:
        opened = datetime.fromisoformat(stores_first(stores, "SELECT opened_at FROM review_requests"))
        for hours in (23, 25, 73):
            advance(stores.state, [collection], (opened + timedelta(hours=hours)).isoformat(timespec="milliseconds"))
    kinds = [row[0] for row in example.ledger("SELECT kind FROM notices ORDER BY made_at")]
    assert kinds[-2:] == ["reminded", "escalated"]
    assert "further approvals are needed" in example("signoff", "approve", "letters", "--all", "--by", "ada")
    example("signoff", "approve", "letters", "--all", "--by", "bo")
    example("publish", "letters")
    assert {"ada", "bo"} <= {row[0] for row in example.ledger("SELECT actor FROM audit")}
    example("audit", "verify")


def stores_first(stores: Stores, question: str) -> str:
    with stores.state.read() as connection:
        return str(connection.execute(sa.text(question)).scalar_one())


@pytest.mark.slow
@of("underwriting")
def test_the_weak_ones_wait_and_the_others_go_on(example: Example) -> None:
    example("run", "loans")
    [queue] = example.json("held", "list", "loans")
    held = {row["document_id"].rpartition("#")[2] for row in queue["held"]}
    assert {"L-2", "L-4"} <= held
    assert len(held) < 6
    assert "shard-0" in example("signoff", "list", "loans")


@pytest.mark.slow
@of("departments")
def test_one_department_without_money_and_the_other_goes_on(example: Example) -> None:
    stopped = example("run", "claims_mail", code=1)
    assert "Budget 'tenant-claims'" in stopped
    assert "20 documents indexed" in example("run", "legal_mail")
    calls = {line["tenant"]: line["calls"] for line in example.json("cost", "--by", "tenant")["lines"]}
    assert 0 < calls["claims"] < 20 <= calls["legal"]


@pytest.mark.slow
@of("choose-a-model")
def test_each_route_chooses_its_own_way(example: Example) -> None:
    assert "chosen" in example("plan", "tickets")
    example("run", "tickets", "--wait")
    calls = {line["model"]: line["calls"] for line in example.json("cost", "--by", "model")["lines"]}
    assert calls["rehearsal-large"] == 1  # the long one
    assert example.provider.stats()["billed_batch"] == 11  # of the stage that has until tomorrow


@pytest.mark.slow
@of("cache-with-expiry")
def test_what_was_answered_is_used_again_until_it_is_too_old(example: Example) -> None:
    example("run", "tickets")
    paid = example.provider.stats()["billed"]
    assert paid >= 10
    shutil.rmtree(example.folder / ".ai-assets" / "lake")
    example("run", "tickets")
    assert example.provider.stats()["billed"] == paid
    with example.stores() as stores, stores.state.write() as connection:
        longer_ago = (datetime.now(UTC) - timedelta(days=31)).isoformat(timespec="milliseconds")
        connection.execute(sa.text("UPDATE attempts SET ended_at = :then"), {"then": longer_ago})
    shutil.rmtree(example.folder / ".ai-assets" / "lake")
    example("run", "tickets")
    assert example.provider.stats()["billed"] == 2 * paid


@pytest.mark.slow
@of("own-gpu-off-peak")
def test_outside_its_hours_nothing_is_asked_and_inside_it_goes_on(example: Example) -> None:
    set_hours(example, 3)
    said = example("run", "tickets")
    assert "waiting for its window until" in said
    assert example.provider.stats()["calls"] == 0
    set_hours(example, -1)
    assert "10 documents indexed" in example("run", "tickets")


def set_hours(example: Example, after: int) -> None:
    """Two hours that begin so many hours from now."""
    begin, end = (datetime.now(UTC) + timedelta(hours=hours) for hours in (after, after + 2))
    window = {"from": f"{begin:%H:00}", "to": f"{end:%H:00}", "timezone": "UTC"}
    example.edit("inference.yaml", lambda declared: declared["endpoints"]["own"].update(windows=[window]))


@pytest.mark.slow
@of("research")
def test_killed_in_the_seventh_call_it_goes_on_in_the_seventh(example: Example) -> None:
    example.provider.configure(latency_ms=150)
    example.killed("topics", 3 * 6)
    example("run", "topics")
    stats = example.provider.stats()
    assert 30 <= stats["billed"] <= 33  # one in flight for each document
