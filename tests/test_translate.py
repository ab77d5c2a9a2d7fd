"""Claims about `translate`, and so about adding a kind: what every kind has, it has without a line of its own."""

from typing import Any

import pytest
from conftest import DAYS, Project
from provider import Provider

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.planning.plan import plan
from ai_assets.run.explain import explain
from ai_assets.stages.llm import PromptDocument, ask

DAY = "2026-10-05"
INFERENCE = """
endpoints: {small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}}
routes: {default: {endpoints: [small]}}
retries: {translate: {server_error: {attempts: 2, base_s: 0}}}
"""


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(INFERENCE)
    project.document(f"{DAY}/a.txt", "Die Pumpe in Halle 7 leckt seit Montag.")
    project.document(f"{DAY}/b.txt", "Rechnung 12: insgesamt 120,00 EUR, zahlbar in 30 Tagen.")
    return project


def declared(office: Project, **more: Any) -> Collection:
    stage = {"name": "english", "kind": "translate", "into": "English", **more}
    return office.declare(partitions={**DAYS, "end": DAY}, stages=[stage])


def test_a_document_is_translated_once_and_its_row_says_how(office: Project, provider: Provider) -> None:
    collection = declared(office)
    office.refresh(collection)
    office.refresh(collection)
    manifest = office.stores().lake.manifest("notes", "english", DAY)
    assert manifest is not None
    rows = office.stores().lake.rows(manifest)
    assert all(row["status"] == "ok" and row["text"] for row in rows)
    assert len(provider.bills(every=True)) == 2
    document = PromptDocument(document_id="a", digest="d", title=None, text="Die Pumpe.", language="de", path="a")
    request = ask(collection.questions["english"], document, {}).request
    assert request is not None
    system, user = (str(message["content"]) for message in request.messages)
    assert "You translate documents into English." in system
    assert user.endswith("Translate this document into English.")
    assert explain(collection, office.stores(), f"{DAY}/a.txt")


def test_another_language_is_another_translation_and_other_settings_are_not(
    office: Project, provider: Provider
) -> None:
    office.refresh(declared(office))
    office.refresh(declared(office, tries=3, timeout_s=20))
    assert len(provider.bills(every=True)) == 2
    collection = declared(office, into="French")
    planned = plan(collection, office.stores(), load_inference(office.root / "inference.yaml"))
    (stage,) = [each for each in planned.stages if each.stage == "english"]
    assert stage.new_calls == 2
    office.refresh(collection)
    assert len(provider.bills(every=True)) == 4


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"into": "x"}, "stages.0.into: should have at least 2 characters"),
        ({"into": "German\nand more"}, "stages.0.into: has characters that cannot stand there"),
        ({"labels": 3}, "stages.0: unknown key 'labels'; known here: after, compute, due, hold, into, kind"),
    ],
)
def test_what_is_wrong_with_one_is_said_with_its_line(office: Project, more: dict[str, Any], says: str) -> None:
    with pytest.raises(CollectionInvalid, match=says):
        declared(office, **more)
