"""Claims about the dollars of a release beside its rows: what the ledger knew, checked, and gone with what is gone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backups import in_postgresql
from conftest import Project, project_at
from explained import CHANGED, SAME, asked_and_published
from provider import Provider
from s3_server import CREDENTIALS, bucket_credentials, s3_server  # noqa: F401 - a fixture
from signing import decide, known
from test_llm_stages import BILL, DAY
from test_retention import AT_ONCE, swept

import ai_assets
from ai_assets.backup.making import files_of
from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.forgetting.erasing import forget
from ai_assets.inference import history
from ai_assets.reading.places import DataPlace, HomePlace
from ai_assets.reading.published import Published
from ai_assets.signoff import integrity, releases, verification
from ai_assets.signoff.live_index import roll_back
from ai_assets.signoff.publication import publish
from ai_assets.signoff.release_costs import NO_CALLS, costs_path, with_costs
from ai_assets.signoff.releases import Release
from ai_assets.storage.lake import read_rows
from ai_assets.storage.objects import opened_bucket
from ai_assets.storage.shared_lake import LAKE

OTHER = "2026-10-06"
Costs = Mapping[str, tuple[float, float]]
"""By call, what it cost and may have cost."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def finished(
    request: pytest.FixtureRequest, rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Collection]:
    """One answer was lost on its way, and asked for again. To be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        project = project_at(tmp_path_factory.mktemp("finished"), patch)
        if request.param == "postgresql":
            project = in_postgresql(project, request.getfixturevalue("postgres"), patch)
        rehearsal.script([{"match": "beside pump 1", "fault": "reset_after", "times": 1}])
        return project, asked_and_published(project)


@pytest.fixture
def collection(project: Project, provider: Provider) -> Collection:
    return asked_and_published(project)


def data_of(project: Project, folder: Path) -> tuple[Path, Path]:
    """Lake and index as on another machine, and the public keys."""
    for name in ("lake", "index"):
        shutil.copytree(project.home.root / name, folder / "data" / name)
    return folder / "data", project.home.keys / "trust.json"


def of_home(project: Project) -> Published:
    place = HomePlace("notes", project.home)
    return Published(place, place.live())


def costs_in(release: Published, stages: tuple[str, ...] = ("kind", "facts")) -> Costs:
    return {
        row[f"{stage}_call"]: (row[f"{stage}_cost_usd"], row[f"{stage}_maybe_usd"])
        for row in release.with_dollars().arrow().to_pylist()
        for stage in stages
        if row[f"{stage}_call"]
    }


def costs_of_ledger(project: Project, calls: Costs) -> Mapping[str, Any]:
    with project.stores().state.read() as connection:
        found = {call: history.call(connection, call) for call in calls}
    return {call: (pytest.approx(each.cost_usd), pytest.approx(each.maybe_usd)) for call, each in found.items()}


def live_release(project: Project, name: str = "notes") -> Release:
    with project.stores().state.read() as connection:
        return releases.require_live(connection, name)


def costs_file(project: Project, release: Release, partition: str = DAY) -> Path:
    path = costs_path(project.stores().lake, release.collection, partition, release.parts[partition])
    assert path is not None
    return path


def test_another_process_has_the_dollars_of_the_ledger_from_the_data_alone(
    finished: tuple[Project, Collection], tmp_path: Path
) -> None:
    project, collection = finished
    data, trust = data_of(project, tmp_path)
    program = (
        "import ai_assets, json, sys; r = ai_assets.live(sys.argv[1], data=sys.argv[2], trust=sys.argv[3])\n"
        "r.verify(); print(json.dumps([r.with_dollars().arrow().to_pylist(), r.dollars_as_of]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, collection.name, data, trust], cwd=tmp_path, capture_output=True, text=True,
        check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    rows, as_of = json.loads(done.stdout)
    alone = {
        row[f"{stage}_call"]: (row[f"{stage}_cost_usd"], row[f"{stage}_maybe_usd"])
        for row in rows
        for stage in ("kind", "facts")
        if row[f"{stage}_call"]
    }
    assert len(alone) == 3
    assert alone == costs_of_ledger(project, alone)
    assert as_of <= live_release(project).created_at
    said = {row["document_id"]: row for row in rows}
    assert said[SAME]["kind_cost_usd"] > 0
    assert said[SAME]["kind_maybe_usd"] > 0  # its first answer was lost
    assert said[CHANGED]["kind_maybe_usd"] == 0
    assert said[SAME]["facts_cost_usd"] is None  # it was not asked


def test_the_ledger_says_the_same_now_and_not_as_of(finished: tuple[Project, Collection], tmp_path: Path) -> None:
    project, collection = finished
    data, trust = data_of(project, tmp_path)
    asked = of_home(project)
    assert costs_in(asked) == costs_in(ai_assets.live(collection.name, data=data, trust=trust))
    assert asked.dollars_as_of is None


def test_the_file_names_document_stage_and_call_for_any_reader(finished: tuple[Project, Collection]) -> None:
    project, _ = finished
    rows = list(read_rows(costs_file(project, live_release(project))))
    assert sorted((row["partition"], row["document_id"], row["stage"]) for row in rows) == [
        (DAY, CHANGED, "facts"), (DAY, CHANGED, "kind"), (DAY, SAME, "kind"),
    ]  # fmt: skip
    assert all(isinstance(row["cost_nusd"], int) and row["cost_nusd"] > 0 for row in rows)


def test_a_file_that_was_altered_or_is_missing_is_refused_by_name(
    finished: tuple[Project, Collection], tmp_path: Path
) -> None:
    project, collection = finished
    data, trust = data_of(project, tmp_path)
    path = data / costs_file(project, live_release(project)).relative_to(project.home.root)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    for damage, said in (
        (lambda: path.write_bytes(content), "was altered: its SHA-256 is"),
        (path.unlink, "is missing"),
    ):
        damage()
        found = ai_assets.live(collection.name, data=data, trust=trust)
        with pytest.raises(UserError, match=rf"release 2 of notes, {DAY}, are not those .*: {path.name} {said}"):
            found.with_dollars().arrow()
        assert found.with_dollars().arrow(columns=["kind_label"]).num_rows == 2
        assert found.arrow().num_rows == 2
        with pytest.raises(UserError, match=path.name):
            found.verify()


def test_a_release_of_an_earlier_version_says_what_is_missing_and_the_next_publication_writes_it(
    project: Project, collection: Collection, tmp_path: Path
) -> None:
    data, trust = data_of(project, tmp_path)
    place, live = DataPlace.of(collection.name, str(data), trust), live_release(project)
    older = replace(live, parts={name: replace(part, costs_file=None) for name, part in live.parts.items()})
    with pytest.raises(
        UserError, match=r"Release 2 of notes was published by an earlier version.* AI_ASSETS_STATE_URL"
    ):
        Published(place, older).with_dollars()
    said: list[str] = []
    written = with_costs(collection, project.stores(), older.parts, check=lambda: None, say=said.append)
    assert said == ["writing what the calls of 1 partition cost"]
    again = Published(place, replace(older, parts=written))
    shutil.copytree(project.home.lake, data / "lake", dirs_exist_ok=True)
    assert costs_in(again) == costs_in(of_home(project))


def test_after_a_rollback_the_dollars_are_those_of_the_earlier_release(
    project: Project, collection: Collection, tmp_path: Path
) -> None:
    with project.stores().state.read() as connection:
        first = releases.get(connection, collection.name, 1)
    calls = {row["call"] for row in read_rows(costs_file(project, first))}
    after = {row["call"] for row in read_rows(costs_file(project, live_release(project)))}
    assert calls != after
    roll_back(project.stores(), collection.name, 1, by=known(project.stores().state), reason="a test")
    data, trust = data_of(project, tmp_path)
    found = ai_assets.live(collection.name, data=data, trust=trust)
    assert found.number == 1
    assert costs_in(found).keys() == calls
    assert costs_in(found) == costs_of_ledger(project, costs_in(found))


def test_a_partition_that_did_not_change_keeps_its_file(project: Project, collection: Collection) -> None:
    before = live_release(project)
    project.document(f"{OTHER}/bill-3.txt", BILL.format(n=3))
    project.refresh(collection, [OTHER])
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")
    after = live_release(project)
    assert after.parts[DAY] == before.parts[DAY]
    assert costs_file(project, after, OTHER).is_file()


def test_a_forgotten_document_takes_its_dollars_with_it(
    project: Project, collection: Collection, tmp_path: Path
) -> None:
    stores = project.stores()
    forget(stores, collection, CHANGED, by=known(stores.state, "ada", "admin"), reason="erasure request 17")
    folder = costs_file(project, live_release(project)).parent
    kept = [row["document_id"] for path in folder.glob("*.parquet") if path.name in _costs_files(project)
            for row in read_rows(path)]  # fmt: skip
    assert kept == [SAME]
    assert {path.name for path in folder.glob("*.parquet")} == set(live_release(project).parts[DAY].files)
    data, trust = data_of(project, tmp_path)
    found = ai_assets.live(collection.name, data=data, trust=trust)
    found.verify()
    assert costs_in(found) == costs_in(of_home(project))
    assert len(costs_in(found)) == 1
    verification.verify(stores.state)
    assert [area for area in integrity.verify(stores) if area.differences] == []


def _costs_files(project: Project) -> set[str]:
    with project.stores().state.read() as connection:
        every = releases.find(connection, "notes")
    return {str(part.costs_file) for release in every for part in release.parts.values()}


def test_retention_keeps_the_file_as_long_as_its_release_and_backups_name_it(
    project: Project, collection: Collection
) -> None:
    with project.stores().state.read() as connection:
        first, second = releases.find(connection, collection.name)
    project.edit(collection, CHANGED, BILL.format(n=9))
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")
    assert costs_file(project, first).relative_to(project.home.root).as_posix() in set(files_of(first, project.home))
    swept(project, collection)
    assert costs_file(project, first).is_file()
    swept(project, collection, settings=AT_ONCE.model_copy(update={"rollback_releases": 1}))
    assert not costs_file(project, first).exists()
    assert costs_file(project, second).is_file()


def test_verify_names_a_file_that_was_altered(project: Project, collection: Collection) -> None:
    path = costs_file(project, live_release(project))
    path.write_bytes(b"nothing")
    [found] = [area for area in integrity.verify(project.stores()) if area.differences]
    assert (found.name, found.differences) == ("snapshots", 1)
    assert f"{path} (release 2 of notes, {DAY}) does not hold the bytes that its name says" == found.first


def test_of_a_tenants_data_only_its_own_dollars_are_told(project: Project, collection: Collection) -> None:
    """An answer from before there were tenants, that another one paid for."""
    part = replace(live_release(project).parts[DAY], costs_file=None)
    budget = {"budget": {"limit_usd": 5, "per": "month"}}
    (project.root / "operations.yaml").write_text(json.dumps({"tenants": {"default": budget, "legal": budget}}))

    def written(tenant: str) -> Any:
        settings = collection.settings.model_copy(update={"tenant": tenant})
        theirs = replace(collection, settings=settings)
        return with_costs(theirs, project.stores(), {DAY: part}, check=lambda: None, say=print)[DAY].costs_file

    assert written("legal") == NO_CALLS
    assert written("default").endswith(".parquet")


def test_where_no_model_is_asked_there_is_no_file_and_nothing_is_missing(
    published_project: Project, tmp_path: Path
) -> None:
    assert {part.costs_file for part in live_release(published_project).parts.values()} == {NO_CALLS}
    data, trust = data_of(published_project, tmp_path)
    found = ai_assets.live("notes", data=data, trust=trust)
    assert found.with_dollars().arrow() == found.arrow()
    assert found.dollars_as_of is None


@pytest.mark.slow
def test_a_machine_with_the_bucket_alone_has_the_dollars(
    project: Project, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server("data") as server:
        url = f"s3://data/home?endpoint_override={server}"
        away = replace(project, home=replace(project.home, data_url=url))
        for name, value in {**away.home.variables(), **CREDENTIALS}.items():
            monkeypatch.setenv(name, value)
        collection = asked_and_published(away)
        told = costs_in(of_home(away))
        trust = shutil.copy(away.home.keys / "trust.json", tmp_path)
        file = str(live_release(away).parts[DAY].costs_file)
        shutil.rmtree(away.home.root)
        monkeypatch.delenv("AI_ASSETS_DATA_URL")
        found = ai_assets.live(collection.name, data=url, trust=trust)
        found.verify()
        assert costs_in(found) == told
        assert len(told) == 3
        bucket = opened_bucket(url, LAKE)
        [key] = [each.key for each in bucket.objects() if each.key.endswith(file)]
        bucket.put(key, b"nothing")
        with pytest.raises(UserError, match=f"release 2 of notes, {DAY}, are not those .*: {file} was altered"):
            costs_in(ai_assets.live(collection.name, data=url, trust=trust))
