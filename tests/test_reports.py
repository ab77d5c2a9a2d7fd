"""The sample collection on models: it runs offline in seconds, branches, and is what the README says it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider import Provider

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.run.context import Outcome, Work
from ai_assets.run.refresh import refresh
from ai_assets.stages.base import Row
from ai_assets.storage.stores import Stores

ROOT = Path(__file__).parents[1]
REPORTS = load_collection(ROOT / "collections", "reports")
STAGES = ("triage", "claim_details", "summary", "reply_draft")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collection, Stores, list[Outcome]]]:
    with Provider() as provider, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        stores = Stores.at(Home(root=tmp_path_factory.mktemp("home"), project=ROOT))
        with Work(REPORTS, stores, "test") as work:
            keys = sorted(work.listing.by_partition)
            outcomes = [event for event in refresh(work, keys) if isinstance(event, Outcome)]
        yield REPORTS, stores, outcomes
        stores.state.close()


def rows(computed: tuple[Collection, Stores, list[Outcome]], asset: str) -> dict[str, Row]:
    _, stores, outcomes = computed
    found: dict[str, Row] = {}
    for outcome in outcomes:
        if outcome.manifest.asset == asset:
            found.update({row["document_id"]: row for row in stores.lake.read(outcome.manifest).to_pylist()})
    return found


def test_every_document_is_read_and_every_call_answered(
    computed: tuple[Collection, Stores, list[Outcome]],
) -> None:
    assert len(rows(computed, "documents")) == 24
    assert len({outcome.manifest.partition for outcome in computed[2]}) == 3
    for stage in STAGES:
        assert {row["status"] for row in rows(computed, stage).values()} == {"ok"}, stage


def test_the_label_decides_what_follows(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    labels = {name: row["label"] for name, row in rows(computed, "triage").items()}
    of = {label: {name for name, found in labels.items() if found == label} for label in ("claim", "report", "letter")}
    assert all(of.values())
    assert set(rows(computed, "claim_details")) == set(rows(computed, "reply_draft")) == of["claim"]
    assert set(rows(computed, "summary")) == of["report"]


def test_details_fit_their_schema_and_quote_the_letter(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    fire = rows(computed, "claim_details")["bremen/claim-kitchen-fire.md"]
    details = json.loads(fire["data"])
    assert (details["policy_number"], details["amount"], details["date_of_loss"]) == ("HM-7702-C", 8600, "2026-01-09")
    assert fire["evidence_found"] is True


def test_orders_in_a_letter_do_not_decide_its_label(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    assert rows(computed, "triage")["porto/claim-with-orders.txt"]["label"] == "claim"


def test_what_the_prompt_shows_judges_nothing(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    shown = {item.document for item in REPORTS.questions["triage"].examples}
    assert shown
    assert not shown & {item.document for item in REPORTS.golden_labels}
    scores = [row for row in rows_of_scores(computed) if (row["metric"], row["scope"]) == ("accuracy", "corpus")]
    assert {row["n"] for row in scores} == {14}
    assert all(row["value"] >= 0.6 for row in scores)


def rows_of_scores(computed: tuple[Collection, Stores, list[Outcome]]) -> list[Row]:
    _, stores, outcomes = computed
    manifests = [outcome.manifest for outcome in outcomes if outcome.manifest.asset == "evaluation_scores"]
    return [row for manifest in manifests for row in stores.lake.read(manifest).to_pylist()]
