"""A home that an earlier version made is continued by this one, and not one call of it is paid again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from golden_home import facts, opened
from provider import Provider
from signing import decide, known

from ai_assets.collection.loading import Collection
from ai_assets.signoff import integrity, releases, verification
from ai_assets.signoff.publication import publish

CONFIDENCES = ("confidence", "runner_up_confidence")

pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Project, Collection, dict[str, Any]]:
    return opened(tmp_path, monkeypatch)


Golden = tuple[Project, Collection, dict[str, Any]]


def test_what_decides_identity_is_as_it_was(golden: Golden) -> None:
    project, collection, expected = golden
    assert facts(project, collection) == expected


def test_a_run_pays_nothing_and_changes_nothing(golden: Golden, provider: Provider) -> None:
    project, collection, expected = golden
    changed = {outcome.manifest.asset for outcome in project.refresh(collection) if not outcome.unchanged}
    assert changed <= {"documents"}  # its files lie elsewhere now, and are looked at again
    assert facts(project, collection) == expected
    assert provider.bills(every=True) == []


def test_all_that_was_kept_is_sound(golden: Golden) -> None:
    project, _, _ = golden
    stores = project.stores()
    verification.verify(stores.state)
    assert [area for area in integrity.verify(stores) if area.differences] == []


def labels(project: Project, collection: Collection) -> list[dict[str, Any]]:
    """What the built-in classifier said."""
    lake = project.stores().lake
    there = [lake.manifest(collection.name, "kind", partition) for partition in ("bills", "claims")]
    return [row for manifest in there if manifest is not None for row in lake.read(manifest).to_pylist()]


def test_a_lost_lake_is_made_again_from_the_ledger(golden: Golden, provider: Provider) -> None:
    project, collection, expected = golden
    said = labels(project, collection)
    for folder in (project.home.lake / collection.name).iterdir():
        if folder.name != "snapshots":
            shutil.rmtree(folder)
    project.refresh(collection)
    made = facts(project, collection)
    again = labels(project, collection)
    for before, after in zip(said, again, strict=True):
        assert after == {**before, **{name: pytest.approx(before[name], abs=1e-6) for name in CONFIDENCES}}
    for found in (made, expected):
        found.pop("datasets")  # their rows say that the answers were used again
        if again != said:  # another kind of processor: docs/classifier.md
            found.pop("requests")
    assert made == expected
    assert provider.bills(every=True) == []


def test_it_is_published_and_rolled_back(golden: Golden) -> None:
    project, collection, _ = golden
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    with stores.state.write() as connection:
        assert [release.number for release in releases.find(connection, collection.name)] == [1, 2, 3]
    releases.rollback(stores.state, collection.name, 1, by=known(stores.state, "eve", "approver"), reason="a test")
    with stores.state.read() as connection:
        assert releases.live_number(connection, collection.name) == 1
    verification.verify(stores.state)


def test_only_an_edited_document_is_paid(golden: Golden, provider: Provider) -> None:
    project, collection, _ = golden
    project.edit(collection, "bills/april.txt", "Invoice 19. Total due 12.00 EUR, tax included. Payment in 14 days.")
    assert 0 < len(provider.bills(every=True)) <= 3  # a vector, a label, a summary
