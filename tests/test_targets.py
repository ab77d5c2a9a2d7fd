"""Claims about publication targets: exactly the release's rows, written once, pointed at, pointed back, tried again."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import DAYS, Project
from desks import desk_of
from signing import decide, known, somebody

from ai_assets.backup.making import make_backup
from ai_assets.backup.restoring import restore
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.desk.reading import targets_in_trouble
from ai_assets.orchestration.automation import publication
from ai_assets.signoff import audit, releases, verification
from ai_assets.signoff.errors import DecisionRefused, NothingApproved, NothingLive
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release
from ai_assets.storage.lake import read_rows
from ai_assets.storage.stores import Stores
from ai_assets.targets import rebuilding
from ai_assets.targets.rebuilding import TargetRebuild
from ai_assets.targets.serving import due, serve, states

JSON_LINES = "examples.own_target:JsonLines"
ONE_DAY = {**DAYS, "end": "2026-10-05"}
BROKEN = """
from pathlib import Path

from ai_assets.targets import Receipt, Target, TargetRelease


class Fragile(Target):
    \"\"\"Counts its calls in a folder, and fails in what is named in the file `broken` there.\"\"\"

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def _call(self, name: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{name}\\n")
        broken = self.folder / "broken"
        if broken.exists() and broken.read_text() == name:
            raise ConnectionError(f"nobody answers {name}")

    def write(self, release: TargetRelease) -> Receipt:
        self._call("write")
        return {"number": release.number}

    def point(self, receipt: Receipt) -> None:
        self._call("point")
        (self.folder / "live").write_text(str(receipt["number"]))

    def read(self) -> Receipt | None:
        self._call("read")
        live = self.folder / "live"
        return {"number": int(live.read_text())} if live.exists() else None
"""


@dataclass(frozen=True)
class House:
    """A collection with the example's target and one that can be broken."""

    project: Project
    folder: Path

    def declare(self, *targets: Mapping[str, Any], **more: Any) -> Collection:
        return self.project.declare(partitions=ONE_DAY, publish={"to": list(targets)}, **more)

    @property
    def lines(self) -> dict[str, Any]:
        return {"use": JSON_LINES, "name": "lines", "options": {"folder": str(self.folder / "lines")}}

    @property
    def fragile(self) -> dict[str, Any]:
        return {"use": "fragile:Fragile", "name": "fragile", "options": {"folder": str(self.folder)}}

    def break_(self, call: str | None) -> None:
        broken = self.folder / "broken"
        broken.unlink(missing_ok=True)
        if call is not None:
            broken.write_text(call)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    def release(self, collection: Collection, text: str) -> Release:
        """One more release, that of a document with this text, and all targets brought to it."""
        self.project.document("2026-10-05/a.txt", text)
        self.project.refresh(collection)
        stores = self.project.stores()
        decide(stores.state, collection)
        made = publish(collection, stores, by="test").release
        self.serve(collection)
        return made

    def serve(self, collection: Collection) -> dict[str, int | None]:
        found = serve(collection, self.project.stores(), lambda line: None)
        return {state.target: state.serves for state in found}

    def live_lines(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """As a reader of the folder finds them."""
        root = self.folder / "lines"
        live = json.loads((root / "live.json").read_text())
        place = root / live["collection"] / live["folder"]
        documents, chunks = (
            [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
            for name in ("documents", "chunks")
        )
        return documents, chunks


@pytest.fixture
def house(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "fragile.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.delitem(sys.modules, "fragile", raising=False)
    folder = tmp_path / "outside"
    (folder / "lines").mkdir(parents=True)
    return House(project, folder)


def rows_signed(stores: Stores, release: Release) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    documents: list[dict[str, Any]] = []
    chunks: list[dict[str, Any]] = []
    for partition, part in sorted(release.parts.items()):
        for path, out in zip(
            snapshot_paths(stores.lake, release.collection, partition, part), (documents, chunks), strict=True
        ):
            out += [{"partition": partition, **row} for row in read_rows(path)]
    return [{name: value for name, value in row.items() if name != "leaf"} for row in documents], chunks


def test_a_target_gets_exactly_the_rows_of_the_release(house: House) -> None:
    collection = house.declare(house.lines)
    release = house.release(collection, "The pump in hall 7 leaks.")
    assert house.live_lines() == rows_signed(house.project.stores(), release)


def test_a_target_is_written_to_once_and_a_rollback_only_points_back(house: House) -> None:
    collection = house.declare(house.fragile)
    for text in ("first", "second"):
        house.release(collection, text)
    assert house.calls() == ["write", "point", "read"] * 2
    assert house.serve(collection) == {"fragile": 2}
    assert len(house.calls()) == 6  # nothing is asked of it that serves the live release
    releases.rollback(house.project.stores().state, "notes", 1, by=somebody("ann"), reason="wrong")
    assert house.serve(collection) == {"fragile": 1}
    assert house.calls()[6:] == ["point", "read"]
    assert (house.folder / "live").read_text() == "1"


def test_receipts_are_kept_on_every_state_store(store_url: str, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", store_url)
    home = replace(house.project.home, declared_state_url=store_url)
    elsewhere = House(replace(house.project, home=home), house.folder)
    collection = elsewhere.declare(elsewhere.fragile)
    for text in ("first", "second"):
        elsewhere.release(collection, text)
    assert elsewhere.calls() == ["write", "point", "read"] * 2
    elsewhere.break_("point")
    releases.rollback(elsewhere.project.stores().state, "notes", 1, by=somebody("ann"), reason="wrong")
    assert elsewhere.serve(collection) == {"fragile": 2}
    with elsewhere.project.stores().state.read() as connection:
        assert [state.error for state in due(connection, collection, at_once=True)] == [
            "ConnectionError: nobody answers point"
        ]


@pytest.mark.parametrize("call", ["write", "point", "read"])
def test_a_target_that_fails_leaves_the_others_and_the_release_and_is_tried_again(house: House, call: str) -> None:
    collection = house.declare(house.fragile, house.lines)
    house.break_(call)
    release = house.release(collection, "The pump in hall 7 leaks.")
    state = house.project.stores().state
    with state.read() as connection:
        assert releases.require_live(connection, "notes").number == release.number
        fragile, lines = states(connection, collection)
        assert [found.target for found in due(connection, collection, at_once=True)] == ["fragile"]
        assert due(connection, collection) == []  # not before its pause is over
    assert (lines.serves, lines.error) == (1, None)
    assert (fragile.serves, fragile.tries) == (None, 1)
    assert fragile.error == f"ConnectionError: nobody answers {call}"
    house.break_(None)
    assert house.serve(collection) == {"fragile": 1, "lines": 1}
    assert house.calls().count("write") == (2 if call == "write" else 1)
    with state.read() as connection:
        assert [found.error for found in states(connection, collection)] == [None, None]


def test_the_desk_says_which_target_does_not_follow(house: House) -> None:
    collection = house.declare(house.fragile, house.lines)
    house.break_("point")
    house.release(collection, "The pump in hall 7 leaks.")
    desk = desk_of(house.project)
    ann = known(desk.stores.state, "ann")
    assert targets_in_trouble(desk, ann, "notes") == ["fragile: ConnectionError: nobody answers point"]
    house.break_(None)
    house.serve(collection)
    assert targets_in_trouble(desk, ann, "notes") == []


def test_pauses_between_tries_grow_and_end(house: House) -> None:
    collection = house.declare(house.fragile)
    house.break_("write")
    house.release(collection, "The pump in hall 7 leaks.")
    waits = []
    for _ in range(8):
        house.serve(collection)
        with house.project.stores().state.read() as connection:
            row = connection.execute(sa.text("SELECT tries, next_try_at FROM target_states")).one()
        waits.append((row.tries, row.next_try_at))
    assert [tries for tries, _ in waits] == list(range(2, 10))
    moments = [moment for _, moment in waits]
    assert moments == sorted(moments)


def test_a_target_that_does_not_serve_what_it_was_pointed_at_is_not_believed(house: House) -> None:
    collection = house.declare(house.fragile)
    (house.folder / "live").mkdir()  # it cannot be written over, so `point` fails; and then a target that lies:
    house.release(collection, "The pump in hall 7 leaks.")
    (house.folder / "live").rmdir()
    module = sys.modules["fragile"]
    patched = type("Lying", (module.Fragile,), {"point": lambda self, receipt: None})
    target = collection.own.targets[0]
    lying = Collection(**{**vars_of(collection), "own": replace_target(collection, target, patched)})
    found = serve(lying, house.project.stores(), lambda line: None)
    assert found[0].serves is None
    assert "after point({'number': 1}) read() gives None" in str(found[0].error)


def vars_of(collection: Collection) -> dict[str, Any]:
    return {item.name: getattr(collection, item.name) for item in fields(collection)}


def replace_target(collection: Collection, target: Any, kind: type) -> Any:
    return replace(collection.own, targets=(replace(target, kind=kind),))


# In Dagster, and on the command line


def test_the_publication_run_serves_targets_and_the_sensor_tries_those_again_that_failed(house: House) -> None:
    collection = house.declare(house.fragile)
    house.break_("point")
    house.project.document("2026-10-05/a.txt", "The pump in hall 7 leaks.")
    house.project.refresh(collection)
    stores = house.project.stores()
    decide(stores.state, collection)
    sensor = publication(collection)
    with house.project.instance() as opened:
        first = house.project.execute(opened, collection, "notes__publish")
        assert first.success  # the release is live
        (event,) = first.asset_materializations_for_node("notes__published")
        assert "nobody answers point" in str(event.metadata["target/fragile"].value)
        waits = sensor(dg.build_sensor_context(opened))
        assert isinstance(waits, dg.SkipReason)
        assert "fragile: ConnectionError: nobody answers point" in str(waits.skip_message)
        again = house.project.execute(opened, collection, "notes__publish")
        assert not again.success  # there was nothing but the target to do
        with stores.state.write() as connection:
            connection.execute(sa.text("UPDATE target_states SET next_try_at = '2026-01-01T00:00:00.000+00:00'"))
        house.break_(None)
        tick = sensor(dg.build_sensor_context(opened))
        assert isinstance(tick, dg.SensorResult)
        assert len(tick.run_requests or ()) == 1
        assert house.project.execute(opened, collection, "notes__publish").success
        assert isinstance(sensor(dg.build_sensor_context(opened)), dg.SkipReason)
        assert not house.project.execute(opened, collection, "notes__publish").success  # nothing is left to publish


@pytest.mark.slow
def test_status_and_rollback_on_the_command_line_say_what_each_target_serves(house: House) -> None:
    collection = house.declare(house.lines)
    for text in ("first", "second"):
        house.release(collection, text)
    status = house.project.cli("status", "notes")
    assert "lines serves release 2" in status.stdout, status.stderr
    (found,) = json.loads(house.project.cli("status", "--json").stdout)
    assert [(state["target"], state["serves"]) for state in found["targets"]] == [("lines", 2)]
    from signing import PASSWORD, known

    known(house.project.stores().state, "bea")
    back = house.project.cli("releases", "rollback", "notes", "--by", "bea", AI_ASSETS_PASSWORD=PASSWORD)
    assert "lines serves release 1" in back.stdout, back.stderr
    assert [row["text"] for row in house.live_lines()[0]] == ["first"]
    lines = house.folder / "lines/notes" / json.loads((house.folder / "lines/live.json").read_text())["folder"]
    (lines / "documents.jsonl").write_text("damaged")
    shown = house.project.cli("targets", "rebuild", "notes", "--dry-run")
    assert "To be rebuilt from release 1 of notes" in shown.stdout, shown.stderr
    assert "may see part of it: this target writes over what is there" in shown.stdout
    unsure = house.project.cli("targets", "rebuild", "notes", "--by", "bea", AI_ASSETS_PASSWORD=PASSWORD)
    assert (unsure.returncode, "add --yes. Nothing was changed" in unsure.stderr) == (2, True)
    asked = ("targets", "rebuild", "notes", "--by", "bea", "--yes", "--json")
    done = house.project.cli(*asked, AI_ASSETS_PASSWORD=PASSWORD)
    (rebuilt,) = json.loads(done.stdout)
    steps = json.loads(house.project.cli("explain", "notes", "2026-10-05/a.txt", "--json").stdout)
    (step,) = [step for step in steps["provenance"]["steps"] if (step["step"], step["of"]) == ("target", "lines")]
    assert step["facts"]["rebuilt_at"] == rebuilt["finished_at"]
    assert (rebuilt["target"], rebuilt["release_number"], rebuilt["error"]) == ("lines", 1, None), done.stderr
    assert [row["text"] for row in house.live_lines()[0]] == ["first"]


def test_without_targets_nothing_changes_and_nothing_is_recorded(house: House) -> None:
    collection = house.declare()
    house.release(collection, "first")
    with house.project.stores().state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM target_states")).scalar_one() == 0
    with pytest.raises(NothingApproved):
        publish(collection, house.project.stores(), by="test")
    assert house.declare(house.lines).code_versions == collection.code_versions


# Rebuilding


def rebuilt(house: House, collection: Collection, number: int | None = None) -> TargetRebuild:
    release, planned = rebuilding.plan(house.project.stores(), collection, None, number)
    assert [(each.target, each.documents) for each in planned] == [("fragile", release.documents)]
    (done,) = rebuilding.rebuild(
        house.project.stores(), collection, release, ["fragile"], by=somebody("ann"), say=lambda line: None
    )
    return done


def test_a_target_without_a_method_for_it_is_written_and_pointed_once_more(house: House) -> None:
    collection = house.declare(house.fragile)
    for text in ("first", "second"):
        house.release(collection, text)
    before = len(house.calls())
    (house.folder / "live").unlink()
    done = rebuilt(house, collection)
    assert (done.release_number, done.error, done.finished_at is not None) == (2, None, True)
    assert house.calls()[before:] == ["write", "point", "read"]
    assert (house.folder / "live").read_text() == "2"
    assert house.serve(collection) == {"fragile": 2}
    rebuilt(house, collection, 1)  # it is not live, so readers do not see it
    assert house.calls()[before + 3 :] == ["write"]
    assert (house.folder / "live").read_text() == "2"
    with house.project.stores().state.read() as connection:
        found = audit.select(connection, actions=["target rebuilt"])
        assert [(record.actor, record.subject["release"], record.subject["shown"]) for record in found] == [
            ("ann", 1, False), ("ann", 2, True)
        ]  # fmt: skip
    verification.verify(house.project.stores().state)


@pytest.mark.parametrize("call", ["write", "point"])
def test_a_rebuild_that_failed_is_done_by_the_same_command(house: House, call: str) -> None:
    collection = house.declare(house.fragile)
    house.release(collection, "The pump in hall 7 leaks.")
    before = len(house.calls())
    house.break_(call)
    failed = rebuilt(house, collection)
    assert (failed.error, failed.finished_at) == (f"ConnectionError: nobody answers {call}", None)
    assert house.serve(collection) == {"fragile": 1}  # as before
    with house.project.stores().state.read() as connection:
        assert audit.select(connection, actions=["target rebuilt"]) == []
    house.break_(None)
    done = rebuilt(house, collection)
    assert (done.error, done.finished_at is not None) == (None, True)
    assert (done.attempt == failed.attempt) == (call == "write")  # what was written could not be shown
    assert house.calls()[before:].count("write") == 2
    assert rebuilt(house, collection).attempt != failed.attempt


def test_what_cannot_be_rebuilt_is_one_sentence(house: House) -> None:
    collection = house.declare(house.fragile)
    stores = house.project.stores()
    with pytest.raises(NothingLive):
        rebuilding.plan(stores, collection, None, None)
    release = house.release(collection, "The pump in hall 7 leaks.")
    with pytest.raises(UserError, match="notes has no target 'lines'; it has fragile"):
        rebuilding.plan(stores, collection, "lines", None)
    with pytest.raises(UserError, match=r"notes has no target: nothing stands under publish\.to"):
        rebuilding.plan(stores, house.declare(), None, None)
    with pytest.raises(DecisionRefused, match="rebuilding a target takes the role approver in notes"):
        rebuilding.rebuild(stores, collection, release, ["fragile"], by=replace(somebody("eve"), roles={}), say=print)
    (partition, part) = next(iter(release.parts.items()))
    snapshot_paths(stores.lake, "notes", partition, part)[0].unlink()
    with pytest.raises(UserError, match="No target can be rebuilt from release 1 of notes: files of partition 2026-10"):
        rebuilding.plan(stores, collection, None, None)


# Kills


PROGRAM = """
import sys
from pathlib import Path

from ai_assets.collection.loading import load_collection
from ai_assets.targets.serving import serve
from ai_assets.run.context import Stores
from ai_assets.base.home import Home

home = Home.from_environment()
collection = load_collection(home.project / "collections", "notes")
print("begun", flush=True)
serve(collection, Stores.at(home), lambda line: None)
"""


@pytest.mark.slow
def test_killed_anywhere_the_target_has_each_row_once_in_the_end(house: House) -> None:
    collection = house.declare(house.lines)
    for number in range(200):
        house.project.document(f"2026-10-05/{number:03}.txt", f"Note {number}. " + "The pump in hall 7 leaks. " * 40)
    house.project.refresh(collection)
    stores = house.project.stores()
    decide(stores.state, collection)
    release = publish(collection, stores, by="test").release
    chance = random.Random(7)
    program = house.project.root / "program.py"
    program.write_text(PROGRAM)
    for moment in [*(chance.uniform(0.0, 0.9) for _ in range(12)), None]:
        running = subprocess.Popen([sys.executable, program], cwd=house.project.root, stdout=subprocess.PIPE,
                                   env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
        assert running.stdout is not None
        with running.stdout:
            running.stdout.readline()
            if moment is not None:
                time.sleep(moment)
                running.kill()
        code = running.wait(timeout=300)
        assert moment is not None or code == 0
    assert house.live_lines() == rows_signed(stores, release)
    with stores.state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM target_receipts")).scalar_one() == 1


def test_after_a_restore_targets_are_pointed_again_and_not_written_again(house: House, tmp_path: Path) -> None:
    """They may have been brought to a later release since the backup was made."""
    collection = house.declare(house.fragile)
    house.release(collection, "first")
    make_backup(house.project.stores(), tmp_path / "backups")
    house.release(collection, "second")
    before = len(house.calls())
    home = Home(root=tmp_path / "restored", project=house.project.root)
    restore(tmp_path / "backups", home)
    stores = Stores.at(home)
    with stores.state.read() as connection:
        assert [state.serves for state in states(connection, collection)] == [None]
    serve(collection, stores, lambda line: None)
    assert house.calls()[before:] == ["point", "read"]
    assert (house.folder / "live").read_text() == "1"


# What does not fit


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    says: str
    to: Sequence[Any] = field(default=())


WRONG = (
    Wrong(id="no target", says="it is not a class that derives from Target", to=["examples.own_metric:wilson"]),
    Wrong(id="no such option", says="its options: got an unexpected keyword argument 'foldr'",
          to=[{"use": JSON_LINES, "options": {"folder": "x", "foldr": "y"}}]),
    Wrong(id="an option is missing", says="its options: missing a required argument: 'folder'", to=[JSON_LINES]),
    Wrong(id="one name twice", says="publish.to.1: a target 'JsonLines' is there already",
          to=[{"use": JSON_LINES, "options": {"folder": name}} for name in "ab"]),
    Wrong(id="half a target", says="it has no point and no read and no write", to=["ai_assets.targets:Target"]),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_a_target_that_cannot_be_is_refused_with_its_place(house: House, wrong: Wrong) -> None:
    with pytest.raises(CollectionInvalid) as refused:
        house.declare(*wrong.to)
    assert wrong.says in str(refused.value)
