"""docs/extending.md is executed: its Python is written into a project and its YAML declared there."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from conftest import DAYS, STAGE, Project
from desks import desk_of
from llama import Llama
from provider import Provider
from signing import current, known, made_known, somebody
from signing import decide as approve

import ai_assets
from ai_assets.checks.base import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.desk import reading
from ai_assets.signed_asset.declaration import recorded
from ai_assets.signoff.decisions import Choice, decide
from ai_assets.signoff.publication import publish
from ai_assets.targets import rebuilding
from ai_assets.targets.serving import serve

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
DAY = "2026-10-05"
PROMPT = "---\nversion: 1\nauthor: us\n---\n## user\nSay it shortly.\n<document>{{ document.text }}</document>\n"
REHEARSED = """
endpoints: {rehearsal: {base_url: rehearsal, model: rehearsal-mini, free: true}}
routes: {default: {endpoints: [rehearsal]}}
"""


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def declared(title: str) -> Mapping[str, Any]:
    (block,) = re.findall(r"```yaml\n(.*?)```", section(title), re.DOTALL)
    found: Mapping[str, Any] = yaml.safe_load(block)
    return found


@pytest.fixture
def house(project: Project) -> Iterator[Project]:
    """A project with the modules of the document beside `definitions.py`, a bill and a fire."""
    names = []
    for name, code in re.findall(r"```python\n# (my_\w+)\.py\n(.*?)```", DOCUMENT, re.DOTALL):
        (project.root / f"{name}.py").write_text(code)
        names.append(name)
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    golden = [{"document": f"{DAY}/bill.txt", "label": "invoice"}, {"document": f"{DAY}/fire.txt", "label": "incident"}]
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, golden)))
    project.document(f"{DAY}/bill.txt", "Invoice no. 12: subtotal 100.00, tax 20.00, total due 120.00 within 30 days.")
    project.document(f"{DAY}/fire.txt", "At 14:20 a fire broke out in hall 7; the pump failed and two were injured.")
    yield project
    for name in names:
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if path != str(project.root)]


def attributes(**more: Any) -> dict[str, Any]:
    return {
        "partitions": {**DAYS, "end": DAY}, "stages": [dict(STAGE)], "golden": {"labels": "golden.jsonl"}, **more,
    }  # fmt: skip


def test_the_stage_of_the_document_takes_the_names_out(house: Project, provider: Provider) -> None:
    (house.root / "inference.yaml").write_text(REHEARSED)
    collection = house.declare(**attributes(**declared("Stages")))
    house.refresh(collection)
    manifest = house.stores().lake.manifest("notes", "redacted", DAY)
    assert manifest is not None
    bill, fire = house.stores().lake.rows(manifest)
    assert (bill["status"], bill["calls"], isinstance(bill["names"], list)) == ("ok", 1, True)
    assert fire["reason"] == "reports on incidents are not redacted by a machine"
    assert len(provider.bills(every=True)) == 1


def test_the_stage_of_the_readme_runs_beside_its_declaration(house: Project, provider: Provider) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "@stage" in block)
    (house.root / "collections" / "notes" / "stages.py").write_text(code)
    (house.root / "inference.yaml").write_text(REHEARSED)
    collection = house.declare(stages=[yaml.safe_load(code.splitlines()[0].partition("there: ")[2])])
    house.refresh(collection, [DAY])
    manifest = house.stores().lake.manifest("notes", "redacted", DAY)
    assert manifest is not None
    assert [row["status"] for row in house.stores().lake.rows(manifest)] == ["ok", "ok"]
    assert len(provider.bills(every=True)) == 2


def test_the_metric_and_the_gates_of_the_document_judge_a_candidate(house: Project) -> None:
    metrics, own = declared("Metrics"), declared("Gates")
    gates = [*metrics["gates"], *own["gates"]]
    house.refresh(house.declare(**attributes(metrics=metrics["metrics"], gates=gates)))
    first, second = current(house.stores().state, DAY).verdicts
    assert (first.name, first.verdict, first.value, first.n) == ("invoices_found", "passed", 1.0, 1)
    assert (second.name, second.verdict, second.holds) == ("accuracy by no_worse_than_live", "undecided", False)


def test_the_check_of_the_document_is_made(house: Project) -> None:
    collection = house.declare(**attributes(**declared("Checks")))
    (check,) = [event for event in house.events(collection) if isinstance(event, CheckOutcome)]
    assert (check.name, check.asset, check.passed, check.details) == ("long_enough", "documents", True, {"short": 0})


def test_the_target_of_the_document_serves_the_release(house: Project) -> None:
    collection = house.declare(**attributes(**declared("Publication targets")))
    house.refresh(collection)
    stores = house.stores()
    approve(stores.state, collection)
    publish(collection, stores, by="test")
    (served,) = serve(collection, stores, lambda line: None)
    assert (served.target, served.serves, served.error) == ("Folder", 1, None)
    live = json.loads((house.root / "outside" / "live.json").read_text())
    lines = (house.root / "outside" / live["file"]).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"{DAY}/bill.txt", f"{DAY}/fire.txt"]
    (target,) = declared("Publication targets")["publish"]["to"]
    beside = [{**target, "use": "my_rebuilt_target:RebuiltFolder"}]
    collection = house.declare(**attributes(publish={"to": beside}))
    release, (planned,) = rebuilding.plan(stores, collection, None, None)
    (done,) = rebuilding.rebuild(stores, collection, release, [planned.target], by=somebody("ann"), say=print)
    assert (planned.beside, done.error) == (True, None)
    rebuilt = json.loads((house.root / "outside" / "live.json").read_text())["file"]
    assert rebuilt == f"1-{done.attempt}.jsonl"
    assert (house.root / "outside" / rebuilt).read_text().splitlines() == lines


def test_the_sink_of_the_document_hears_of_each_span(house: Project) -> None:
    (house.root / "operations.yaml").write_text(yaml.safe_dump(dict(declared("Run sinks"))))
    collection = house.declare(**attributes())
    with house.instance() as opened:
        assert house.execute(opened, collection, "notes", **{RANGE_START: DAY, RANGE_END: DAY}).success
    lines = (house.root / "slow.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines] == list(collection.asset_names)


@pytest.mark.parametrize("document", ["README.md", "docs/signed-assets.md"])
def test_the_lines_that_sign_an_asset_do_what_they_say(document: str, project: Project) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "ai_assets.signed" in block)
    namespace: dict[str, Any] = {"__name__": "told"}
    exec(compile(code, document, "exec"), namespace)  # noqa: S102  # the document is ours
    definitions: dg.Definitions = namespace["defs"]
    dg.Definitions.validate_loadable(definitions)
    assets: Any = definitions.assets
    state = project.stores().state
    everything = {"assets": assets, "raise_on_error": False}
    with project.instance() as opened:
        assert not dg.materialize(instance=opened, **everything).success  # nothing is signed yet
        request = current(state, "all", "replies")
        rules = recorded(state)["replies"].settings.signoff
        for name in ("ann", "ben"):
            person = made_known(state, somebody(name, "approver", "support"))
            choice = Choice(request.request_id, request.digest)
            decide(state, "replies", [choice], "approve", by=person, reason=None, rules=rules)
        done = dg.materialize(instance=opened, **everything)
    assert done.output_for_node("signed__replies") == namespace["replies"]()


def test_signed_assets_load_beside_each_other_and_beside_collections(project: Project) -> None:
    answers, letters = (dg.AssetSpec(name) for name in ("answers", "letters"))
    signed = [ai_assets.signed(answers), ai_assets.signed(letters, name="post", key="id")]
    collection = ai_assets.collection_definitions(project.declare())
    dg.Definitions.validate_loadable(
        dg.Definitions.merge(dg.Definitions(assets=[answers, letters]), *signed, collection)
    )


def test_the_embedder_of_the_document_makes_the_vectors(house: Project) -> None:
    outcomes = house.refresh(house.declare(**attributes(**declared("Embedders"))))
    (embedded,) = [outcome.manifest for outcome in outcomes if outcome.manifest.asset == "embeddings"]
    assert embedded.stats["embedding"]["use"] == "my_embedders:Letters"
    assert {len(row["vector"]) for row in house.stores().lake.rows(embedded)} == {26}


def test_the_protocol_of_the_document_asks_its_server(house: Project, llama: Llama) -> None:
    settings = yaml.safe_dump(dict(declared("Protocols"))).replace("http://localhost:8080", llama.url)
    (house.root / "inference.yaml").write_text(settings)
    (house.root / "collections" / "notes" / "prompt.md").write_text(PROMPT)
    stage = {"name": "short", "kind": "generate", "prompt": "prompt.md", "route": "default"}
    collection = house.declare(partitions={**DAYS, "end": DAY}, stages=[stage])
    for _ in range(2):
        house.refresh(collection)
    manifest = house.stores().lake.manifest("notes", "short", DAY)
    assert manifest is not None
    assert {row["text"] for row in house.stores().lake.rows(manifest)} == {"Pump leaks."}
    assert [path for path, _ in llama.calls] == ["/complete"] * 2


REWRITE = (
    "---\nversion: 1\nauthor: us\n---\n## user\n<document>{{ document.text }}</document>\nTell it to {{ readers }}.\n"
)


def test_the_kind_of_the_document_asks_with_its_own_settings(house: Project, provider: Provider) -> None:
    (house.root / "inference.yaml").write_text(REHEARSED)
    (house.root / "rewrite.md").write_text(REWRITE)
    (stage,) = declared("Kinds of stages")["stages"]
    for _ in range(2):
        collection = house.declare(partitions={**DAYS, "end": DAY}, stages=[stage])
        house.refresh(collection)
    assert len(provider.bills(every=True)) == 2
    shown = collection.questions["plain"].prompt.render({"text": "x"}, {})[1]
    assert shown.endswith("Tell it to people who are not engineers.")
    house.refresh(house.declare(partitions={**DAYS, "end": DAY}, stages=[{**stage, "readers": "lawyers"}]))
    assert len(provider.bills(every=True)) == 4
    with pytest.raises(CollectionInvalid, match="unknown key 'reader'; did you mean 'readers'"):
        house.declare(partitions={**DAYS, "end": DAY}, stages=[{"name": "a", "kind": stage["kind"], "reader": "x"}])


GRADED = """
from pathlib import Path
from typing import ClassVar

from ai_assets.stages.generate import PromptStage


class Graded(PromptStage):
    DESCRIPTION: ClassVar[str] = "A row is a document with its length in characters."
    COLUMNS: ClassVar = {"length": "integer"}
    HEADLINE: ClassVar[str] = "length"
    PROMPT: ClassVar[Path] = Path(__file__).with_name("graded.md")

    def read(self, answer, text):
        return {"length": len(text)}
"""


def test_a_kind_whose_first_column_is_a_number_makes_a_candidate_that_people_can_read(
    house: Project, provider: Provider
) -> None:
    (house.root / "inference.yaml").write_text(REHEARSED)
    (house.root / "graded.md").write_text(PROMPT)
    (house.root / "my_grades.py").write_text(GRADED)
    collection = house.declare(partitions={**DAYS, "end": DAY}, stages=[{"name": "graded", "kind": "my_grades:Graded"}])
    house.refresh(collection)
    stores = house.stores()
    manifest = stores.lake.manifest("notes", "release_candidate", DAY)
    assert manifest is not None
    assert {row["graded_length"] for row in stores.lake.rows(manifest)} == {"76", "74"}
    bob = known(stores.state, "bob")
    approve(stores.state, collection)
    publish(collection, stores, by="ann")
    house.edit(collection, f"{DAY}/bill.txt", "An invoice of 9.00.")
    page = reading.document_page(desk_of(house), bob, current(stores.state, DAY).request_id, sort="name")
    assert [(row.headlines, row.before) for row in page.rows] == [
        ({"graded": "19"}, {"graded": "76"}), ({"graded": "74"}, {}),
    ]  # fmt: skip
