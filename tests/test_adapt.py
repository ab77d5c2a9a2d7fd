"""Claims about `ai-assets adapt`: what a fit to documents without labels is made of, declares, changes and refuses."""

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from conftest import DAYS, LABELS, STAGE, Project, project_at
from signing import decide as approve
from typer.testing import CliRunner

from ai_assets.cli import adapt
from ai_assets.cli.app import app
from ai_assets.cli.errors import AdaptationUnwritable, StageNotAdaptable, StageNotWritable
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.planning.adapting import AdaptationRefused, Adapting, ProposedAdaptation
from ai_assets.planning.preview import PreviewWork
from ai_assets.run.adaptation_age import adaptation_ages
from ai_assets.run.datasets.builtin_classifier import CALIBRATION
from ai_assets.run.status import partition_states
from ai_assets.signoff.publication import publish
from ai_assets.stages.base import Row
from ai_assets.stages.classify import first_version
from ai_assets.stages.classify.adaptation import Adaptation, read_adaptation
from ai_assets.stages.classify.confidence import Sureness, fitted_sureness
from ai_assets.stages.classify.learning import LEAST_GOLDEN
from ai_assets.stages.classify.unlabelled import DOUBT, LEAST_DOCUMENTS
from ai_assets.storage.migrations import m017_builtin_versions

DAY, NEXT_DAY = "2026-10-05", "2026-10-06"
EACH = 40
BILL = "amount tax total due payment terms invoice quantity price subtotal transfer account bank reminder".split()
ACCIDENT = "fire leak outage cause injured alarm pump smoke repaired crane forklift evacuated valve broke".split()
COMMON = "monday hall week person office number paper letter north customer date place page copy plan".split()
AT = "2026-11-28T12:00:00.000+00:00"


def text(drawn: random.Random, words: list[str]) -> str:
    return " ".join([*drawn.choices(words, k=4), *drawn.choices(COMMON, k=14)]) + "."


def documents(project: Project, each: int = EACH, day: str = DAY) -> None:
    drawn = random.Random(day)
    for number in range(each):
        project.document(f"{day}/bill-{number:03}.txt", text(drawn, BILL))
        project.document(f"{day}/accident-{number:03}.txt", text(drawn, ACCIDENT))


def declared(project: Project, stage: dict[str, Any] | None = None, **more: Any) -> Collection:
    return project.declare(partitions={**DAYS, "end": NEXT_DAY}, stages=[stage or dict(STAGE)], **more)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To be copied."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("computed"), patch)
        documents(made)
        made.refresh(declared(made))
        return made


@pytest.fixture
def office(project: Project, computed: Project) -> Project:
    project.copy(computed)
    return project


def loaded(project: Project) -> Collection:
    return load_collection(project.root / "collections", "notes")


def command(*arguments: str) -> Any:
    found = CliRunner().invoke(app, ["adapt", "notes", *arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout) if "--json" in arguments else found.stdout


def proposed(project: Project, collection: Collection, size: int = 1000, seed: int = 1) -> ProposedAdaptation:
    with PreviewWork(collection, project.stores(), "adapt") as work:
        (stage,) = collection.labelling
        return Adapting(work, stage, size=size, seed=seed).proposed(AT, lambda _: None, lambda _, __: None)


def rows(project: Project, day: str = DAY) -> dict[str, Row]:
    manifest = project.stores().lake.manifest("notes", STAGE["name"], day)
    assert manifest is not None
    return {row["document_id"]: row for row in project.stores().lake.rows(manifest)}


def files(project: Project) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (project.root / "collections").rglob("*") if path.is_file()}


def file_of(project: Project) -> Path:
    return project.root / "collections" / "notes" / "adaptation" / "kind.json"


def test_a_dry_run_says_what_would_change_and_changes_nothing(office: Project) -> None:
    before = files(office)
    said = command("--dry-run", "--json")
    assert (said["written"], said["file"], said["price_usd"]) == (False, None, 0.0)
    assert said["fitted_on"]["documents"] == said["fitted_on"]["of"] == said["labelled"] == 2 * EACH
    assert said["changed"] == sum(each["documents"] for each in said["moves"]) >= len(said["examples"])
    assert files(office) == before
    assert all(each.unchanged for each in office.refresh(loaded(office)))
    assert "Price: $0" in command("--dry-run")
    assert "Nothing was changed" in command()


def test_what_was_said_beforehand_is_what_the_next_run_changes(office: Project) -> None:
    before = rows(office)
    said = command("--yes", "--json")
    assert said["file"] == str(file_of(office))
    office.refresh(loaded(office))
    after = rows(office)
    changed = {name for name in after if after[name]["label"] != before[name]["label"]}
    assert len(changed) == said["changed"]
    for each in said["examples"]:
        assert each["document"] in changed
        assert (each["before"], each["after"]) == (before[each["document"]]["label"], after[each["document"]]["label"])
        assert each["after_confidence"] == pytest.approx(after[each["document"]]["confidence"])
    assert {row["model"] for row in after.values()}.isdisjoint(row["model"] for row in before.values())


def test_only_a_change_of_the_file_makes_labels_due_and_voids_approvals(office: Project) -> None:
    stores = office.stores()
    command("--yes")
    first = loaded(office)
    office.refresh(first)
    approve(stores.state, first)
    publish(first, stores, by="test")
    assert "has these numbers already" in command("--yes")
    assert partition_states(loaded(office), stores)[DAY] == "published"
    documents(office, 5, NEXT_DAY)
    office.refresh(loaded(office))
    approve(stores.state, first)
    publish(first, stores, by="test")
    assert partition_states(loaded(office), stores)[DAY] == "published"
    assert file_of(office).read_text() == first.adaptations["kind"].written()
    command("--yes", "--seed", "2", "--documents", "60")
    assert partition_states(loaded(office), stores) == {DAY: "stale", NEXT_DAY: "stale"}
    assert {
        asset
        for asset, version in loaded(office).code_versions.items()
        if version != first.code_versions[asset]
    } == {"kind"}  # fmt: skip


def test_a_label_depends_on_its_document_and_the_file_alone(office: Project) -> None:
    command("--yes")
    office.refresh(loaded(office))
    before = rows(office)
    documents(office, EACH + 5)
    made = {each.manifest.asset: each for each in office.refresh(loaded(office), [DAY])}
    assert made["kind"].reused == 2 * EACH
    shutil.rmtree(office.stores().lake.folder("notes", "kind", DAY))
    with office.stores().state.write() as connection:
        connection.execute(sa.text("DELETE FROM datasets WHERE asset = 'kind'"))
    office.refresh(loaded(office), [DAY])
    after = rows(office)
    assert {name: after[name] for name in before} == before


def test_without_the_declaration_labels_are_those_from_before(office: Project) -> None:
    before = rows(office)
    command("--yes")
    office.refresh(loaded(office))
    office.refresh(declared(office))
    assert rows(office) == before


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_collection_of_the_first_classifier_is_adapted_to_the_newest(office: Project, version: str) -> None:
    if version == first_version.VERSION:
        with office.stores().state.write() as connection:
            connection.execute(sa.text("DROP TABLE builtin_versions"))
            m017_builtin_versions.up(connection)
    command("--yes")
    office.refresh(loaded(office))
    expected = proposed(office, loaded(office))
    assert expected.effect.changed == 0
    assert expected.effect.labelled == 2 * EACH


def test_no_label_of_a_person_is_looked_at(office: Project) -> None:
    """Golden labels that are all wrong judge the fit, and do not move it."""
    plain = proposed(office, declared(office)).adaptation
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    lines = [{"document": f"{DAY}/bill-{number:03}.txt", "label": "incident"} for number in range(EACH)]
    golden.write_text("\n".join(map(json.dumps, lines)))
    found = proposed(office, declared(office, golden={"labels": "golden.jsonl"}))
    assert found.adaptation.numbers == plain.numbers
    assert found.golden is not None
    assert found.golden.documents == EACH
    assert found.golden.after.accuracy < 0.5
    assert (found.golden.before.fitted, found.golden.after.fitted) == (True, True)


def test_a_golden_document_is_judged_by_a_fit_without_it(office: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    names = [f"{DAY}/bill-{number:03}.txt" for number in range(10)]
    golden.write_text("\n".join(json.dumps({"document": name, "label": "invoice"}) for name in names))
    sizes: list[int] = []
    fitted = Adapting._fitted

    def noted(self: Adapting, *arguments: Any) -> Adaptation:
        made = fitted(self, *arguments)
        sizes.append(made.fitted_on.documents)
        return made

    monkeypatch.setattr(Adapting, "_fitted", noted)
    proposed(office, declared(office, golden={"labels": "golden.jsonl"}))
    assert sizes == [2 * EACH, *[2 * EACH - 2] * 5]


def test_the_sample_is_drawn_by_the_seed_and_a_text_counts_once(office: Project) -> None:
    collection = declared(office)
    one, same, other = (proposed(office, collection, 60, seed).adaptation for seed in (1, 1, 2))
    assert one == same
    assert one.fitted_on.digest != other.fitted_on.digest
    assert (one.fitted_on.documents, one.fitted_on.of) == (60, 2 * EACH)
    first = office.root / "collections" / "notes" / "documents" / DAY / "bill-000.txt"
    for number in range(30):
        office.document(f"{NEXT_DAY}/copy-{number}.txt", first.read_bytes())
    office.refresh(collection)
    assert proposed(office, collection, 60).adaptation.fitted_on == one.fitted_on


def edited(path: Path, change: Callable[[Adaptation], Adaptation]) -> None:
    """As somebody would who knows how the digest is made."""
    path.write_text(change(read_adaptation(path)).written())


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda path: path.write_text(path.read_text().replace('"seed": 1', '"seed": 2')), "it was edited"),
        (lambda path: path.write_text(path.read_text()[:-40]), "not whole"),
        (lambda path: path.write_text(path.read_text().replace("[", "[NaN, ", 1)), "a number that is none"),
        (lambda path: path.write_text("[1]"), "its format is None"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "no JSON"),
        (lambda path: edited(path, lambda made: replace(made, labels="0" * 64)), "other labels"),
        (lambda path: edited(path, lambda made: replace(made, stage="other")), "for stage 'other'"),
        (lambda path: edited(path, lambda made: replace(made, classifier="9")), "version 9 of the classifier"),
        (
            lambda path: edited(path, lambda made: replace(made, embedder={**made.embedder, "version": "old"})),
            "fitted to vectors of builtin/wordllama-256 old",
        ),
        (
            lambda path: edited(
                path, lambda made: replace(made, numbers={name: row[:-1] for name, row in made.numbers.items()})
            ),
            "does not have 257 numbers for each label",
        ),
        (
            lambda path: edited(path, lambda made: replace(made, numbers={"invoice": made.numbers["invoice"]})),
            "does not have 257 numbers for each label",
        ),
        (lambda path: edited(path, lambda made: replace(made, temperature=0.0)), "cannot be right"),
        (lambda path: path.write_text(path.read_text().replace("[", "[-Infinity, ", 1)), "a number that is none"),
        (lambda path: path.write_text(path.read_text().replace("[", "[1e999, ", 1)), "a number that is none"),
    ],
    ids=["edited", "half", "NaN", "another file", "gone", "no text", "labels", "stage", "classifier", "space",
         "dimensions", "a label less", "temperature", "infinite", "too large"],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_its_line_and_made_anew(
    office: Project, damage: Callable[[Path], object], found: str
) -> None:
    command("--yes")
    damage(file_of(office))
    lines = (office.root / "collections" / "notes" / "defs.yaml").read_text().splitlines()
    with pytest.raises(CollectionInvalid) as refused:
        loaded(office)
    assert found in str(refused.value)
    assert f"defs.yaml:{lines.index('    adapted: adaptation/kind.json') + 1}:" in str(refused.value)
    assert "ai-assets adapt notes --stage kind" in str(refused.value)
    command("--yes")
    assert loaded(office).adaptations["kind"].fitted_on.documents == 2 * EACH


def test_another_description_needs_another_fit_and_examples_do_not(office: Project) -> None:
    command("--yes")
    defs = office.root / "collections" / "notes" / "defs.yaml"
    before = defs.read_text()
    defs.write_text(before.replace("A bill with amounts", "A paper with amounts"))
    with pytest.raises(CollectionInvalid, match="other descriptions"):
        loaded(office)
    examples = [{**LABELS[0], "examples": ["the total is due by bank transfer"]}, LABELS[1]]
    collection = declared(office, {**STAGE, "labels": examples, "adapted": "adaptation/kind.json"})
    assert list(collection.adaptations) == ["kind"]


def test_two_outdated_files_are_made_anew_one_after_the_other(office: Project) -> None:
    second = {**STAGE, "name": "again"}
    defs = office.declare(partitions={**DAYS, "end": NEXT_DAY}, stages=[dict(STAGE), second]).folder / "defs.yaml"
    office.refresh(loaded(office))
    for name in ("kind", "again"):
        command("--yes", "--stage", name)
    defs.write_text(defs.read_text().replace("A bill with", "A paper with"))
    for name in ("kind", "again"):
        command("--yes", "--stage", name)
    assert set(loaded(office).adaptations) == {"kind", "again"}
    with pytest.raises(StageNotAdaptable, match=r"several stages of the built-in classifier \(kind, again\)"):
        command()


def test_too_few_documents_are_refused(project: Project) -> None:
    collection = declared(project)
    with pytest.raises(AdaptationRefused, match="no document was computed yet; run it first: ai-assets run notes"):
        command()
    documents(project, LEAST_DOCUMENTS // 2 - 1)
    project.refresh(collection)
    with pytest.raises(AdaptationRefused, match="applies to 48 different texts, and a fit takes at least 50"):
        command()


def test_a_collection_that_cannot_be_read_is_refused(project: Project) -> None:
    for number in range(3):
        project.document(f"{DAY}/{number}.pdf", f"%PDF-1.4 broken {number}".encode())
    project.refresh(declared(project))
    with pytest.raises(AdaptationRefused, match="none of its documents can be read, 3 are quarantined"):
        command()


def test_only_the_built_in_classifier_is_adapted(office: Project) -> None:
    (office.root / "inference.yaml").write_text(
        "endpoints:\n  default: {base_url: 'http://127.0.0.1:9/v1', model: m}\n"
    )
    routed = {**STAGE, "name": "asked", "route": "default"}
    office.declare(
        partitions=dict(DAYS), stages=[dict(STAGE), routed, {"name": "brief", "kind": "summarise", "route": "default"}]
    )
    for stage, said in (("asked", "is not the built-in"), ("brief", "is not the built-in"), ("kin", "no stage 'kin'")):
        with pytest.raises(StageNotAdaptable, match=said):
            command("--stage", stage)
    with pytest.raises(CollectionInvalid, match="a stage has a 'route' or 'adapted', not both"):
        office.declare(stages=[{**routed, "adapted": "a.json"}])


def test_a_declaration_that_is_not_written_in_lines_is_left_as_it_is(office: Project) -> None:
    defs = office.root / "collections" / "notes" / "defs.yaml"
    declaration = json.dumps({"type": "ai_assets.DocumentCollection", "attributes": {
        "source": {"path": "documents"}, "partitions": {**DAYS, "end": NEXT_DAY}, "stages": [STAGE]}})  # fmt: skip
    defs.write_text(declaration)
    with pytest.raises(StageNotWritable, match=r"write 'adapted: adaptation/kind\.json' there yourself"):
        command("--yes")
    assert defs.read_text() == declaration
    assert not file_of(office).exists()


@pytest.mark.parametrize("declared_before", [False, True])
@pytest.mark.parametrize("fails", ["usable_adaptation", "load_collection"])
def test_where_it_cannot_be_written_all_is_as_it_was(
    office: Project, monkeypatch: pytest.MonkeyPatch, fails: str, declared_before: bool
) -> None:
    if declared_before:
        command("--yes")
    before = files(office)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapt, fails, full)
    with pytest.raises(AdaptationUnwritable, match=r"No space left on device\); nothing was changed"):
        command("--yes", "--seed", "7", "--documents", "55")
    assert files(office) == before


def test_a_place_that_is_no_folder_is_said(office: Project) -> None:
    file_of(office).parent.write_text("in the way")
    with pytest.raises(AdaptationUnwritable, match="cannot be written"):
        command("--yes")
    assert "adapted" not in (office.root / "collections" / "notes" / "defs.yaml").read_text()


def test_an_edited_declaration_keeps_its_comments(office: Project) -> None:
    defs = office.root / "collections" / "notes" / "defs.yaml"
    defs.write_text(defs.read_text().replace("  - name: kind\n", "  # the only stage\n  - name: kind  # of paper\n"))
    before = defs.read_text().splitlines()
    command("--yes")
    after = defs.read_text().splitlines()
    assert [line for line in after if line.strip() != "adapted: adaptation/kind.json"] == before
    assert after.index("    adapted: adaptation/kind.json") == before.index("  - name: kind  # of paper") + 1


def test_status_tells_what_a_stage_was_adapted_to(office: Project) -> None:
    command("--yes")
    office.refresh(loaded(office))
    collection = loaded(office)
    told = CliRunner().invoke(app, ["status", "notes"], catch_exceptions=False).stdout
    assert "was adapted to 80 of 80 texts today, and labels 80 documents now." in told
    at = collection.adaptations["kind"].fitted_on.at
    with office.stores().state.read() as connection:
        (later,) = adaptation_ages(connection, collection, f"{int(at[:4]) + 2}{at[4:]}")
        (before,) = adaptation_ages(connection, collection, f"{int(at[:4]) - 2}{at[4:]}")
    assert "24 months ago" in later.sentence("notes")
    assert later.sentence("notes").endswith("ai-assets adapt notes --stage kind --dry-run")
    assert before.days == 0
    assert not before.is_outgrown
    documents(office, 3 * EACH)
    office.refresh(collection)
    with office.stores().state.read() as connection:
        (grown,) = adaptation_ages(connection, collection)
    assert grown.is_outgrown
    found = json.loads(CliRunner().invoke(app, ["status", "notes", "--json"], catch_exceptions=False).stdout)
    assert found[0]["adaptations"][0]["labelled_now"] == 6 * EACH


def test_sureness_leaves_labels_and_sums_to_one() -> None:
    scores = np.random.default_rng(3).normal(size=(200, 5)) * 3
    made = Sureness(temperature=1.7, doubt=0.2).shares(scores)
    assert np.allclose(made.sum(axis=1), 1)
    assert (made.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert made.max() < 0.85


def test_doubt_is_fitted_where_the_surest_are_often_wrong() -> None:
    """A fifth of the documents have a label by chance, however sure the scores are."""
    drawn = np.random.default_rng(5)
    scores = drawn.normal(size=(400, 5)) + 8 * np.eye(5)[drawn.integers(5, size=400)]
    truth = np.where(drawn.random(400) < 0.2, drawn.integers(5, size=400), scores.argmax(axis=1))
    fitted = fitted_sureness(scores, truth, DOUBT)
    assert 0.1 < fitted.doubt < 0.3
    assert math.isclose(fitted.shares(scores).max(axis=1).mean(), 0.84, abs_tol=0.06)
    assert fitted_sureness(scores[:20], truth[:20], DOUBT) == Sureness(doubt=DOUBT)


def test_confidence_of_an_adapted_stage_is_fitted_once(office: Project) -> None:
    """Temperature and doubt; a run that labels one document more takes over what was fitted."""
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    lines = [{"document": f"{DAY}/bill-{number:03}.txt", "label": "invoice"} for number in range(LEAST_GOLDEN)]
    golden.write_text("\n".join(map(json.dumps, lines)))
    declared(office, golden={"labels": "golden.jsonl"})
    command("--yes")
    office.refresh(loaded(office), [DAY])
    made = office.stores().lake.manifest("notes", "kind", DAY)
    assert made is not None
    assert set(made.stats[CALIBRATION]) == {"of", "temperature", "doubt"}
    models = {row["model"] for row in rows(office).values()}
    assert len(models) == 1
    office.document(f"{DAY}/one-more.txt", "The invoice: total due and tax.")
    found = {each.manifest.asset: each for each in office.refresh(loaded(office), [DAY])}
    assert found["kind"].reused == 2 * EACH
    assert {row["model"] for row in rows(office).values()} == models


def test_a_file_that_nobody_declares_counts_nothing(office: Project) -> None:
    """As it is left by who is killed between the file and its declaration."""
    before = loaded(office).code_versions
    command("--yes")
    written = file_of(office).read_bytes()
    declared(office)
    assert file_of(office).read_bytes() == written
    assert loaded(office).code_versions == before
    assert all(each.unchanged for each in office.refresh(loaded(office)))
    assert command("--yes", "--json")["written"] is True
    assert list(loaded(office).adaptations) == ["kind"]
