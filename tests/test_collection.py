# ruff: noqa: E501  a wrong file is a row, and a row is a line
"""Claims about reading `defs.yaml`: what is wrong in it is refused at load, in one sentence with file, line and remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, Project
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ai_assets.base.errors import UserError
from ai_assets.collection.errors import CollectionInvalid, CollectionNameInvalid, CollectionNameTaken, CollectionUnknown
from ai_assets.collection.loading import COMPONENT_TYPE, RESERVED_NAMES, Collection, check_name, load_collection
from ai_assets.collection.settings import ScheduleSettings
from ai_assets.evaluation.errors import GoldenError

BASE = """\
type: ai_assets.DocumentCollection
attributes:
  source:
    path: documents
  partitions: {by: day, start: 2026-10-05, end: 2026-10-07}
"""
STAGE = """\
  stages:
    - name: kind
      kind: classify
      labels:
        - {name: invoice, description: A bill with amounts.}
        - {name: incident, description: A report on an accident.}
"""
SECOND = STAGE.replace("  stages:\n", "").replace("name: kind", "name: second")
WAITS = "      when: {%s: [%s]}\n      kind: classify"


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    text: str
    says: str
    """All of the message after the path: line, place, problem, remedy."""


def added(lines: str) -> str:
    return BASE + lines


WRONG = [
    # Keys nobody knows, at every level
    Case(id="key", text=added("  sorce: x\n"), says=":6: unknown key 'sorce'; did you mean 'source'?"),
    Case(
        id="key like no other", text=added("  5: x\n"),
        says=":6: unknown key '5'; known here: builtins, checks, chunking, contract, description, drift, due, embedding, embeddings, evaluation, freshness, gates, golden, metrics, near_duplicates, owners, "
        "partitions, publish, quality, rerank, schedule, signoff, source, stages, tenant, timezone, watch, within",
    ),
    Case(id="key of the file", text=BASE.replace("attributes:", "atributes:"), says=":2: unknown key 'atributes'; did you mean 'attributes'?"),
    Case(id="key of source", text=BASE.replace("    path: documents", "    path: documents\n    pat: x"), says=":5: source: unknown key 'pat'; did you mean 'path'?"),
    Case(
        id="key of a table", text=BASE.replace("    path: documents", "    path: documents\n    tables:\n      csv: {keys: id}"),
        says=":6: source.tables.csv: unknown key 'keys'; did you mean 'key'?",
    ),
    Case(
        id="kind of table", text=BASE.replace("    path: documents", "    path: documents\n    tables:\n      cvs: {key: id}"),
        says=":6: source.tables.cvs: should be 'csv', 'jsonl' or 'parquet' (found 'cvs')",
    ),
    Case(id="key of partitions", text=BASE.replace("by: day", "by: day, strat: 1"), says=":5: partitions: unknown key 'strat'; did you mean 'start'?"),
    Case(id="key of a stage", text=BASE + STAGE.replace("      kind:", "      kinds: a\n      kind:"), says=":8: stages.0: unknown key 'kinds'; did you mean 'kind'?"),
    Case(id="key of a label", text=BASE + STAGE.replace("amounts.}", "amounts., note: x}"), says=":10: stages.0.labels.0: unknown key 'note'; did you mean 'name'?"),
    Case(id="key of a gate", text=added("  gates:\n    - {metric: mrr, minimum: 0.5}\n"), says=":7: gates.0: unknown key 'minimum'; did you mean 'min'?"),
    Case(id="key of the schedule", text=added("  schedule: {crn: x}\n"), says=":6: schedule: unknown key 'crn'; did you mean 'cron'?"),
    Case(id="key of sign-off", text=added("  signoff: {approver: [a]}\n"), says=":6: signoff: unknown key 'approver'; did you mean 'approvers'?"),
    Case(id="key twice", text=added("  tenant: a\n  tenant: b\n"), says=":7: key 'tenant' is here already, on line 6"),
    # Types and bounds
    Case(id="text for a number", text=added("  chunking: {max_characters: many}\n"), says=":6: chunking.max_characters: should be a whole number (found 'many')"),
    Case(id="text for a list", text=added("  owners: team:ops\n"), says=":6: owners: should be a list (found 'team:ops')"),
    Case(id="number for keys", text=added("  chunking: 800\n"), says=":6: chunking: should be keys with values (found 800)"),
    Case(id="keys for a list", text=BASE + STAGE.replace("    - name", "      name"), says=":6: stages: should be a list"),
    Case(id="nothing for text", text=BASE.replace("path: documents", "path:"), says=":4: source.path: should be text"),
    Case(id="text for yes or no", text=added("  watch: perhaps\n"), says=":6: watch: should be true or false (found 'perhaps')"),
    Case(id="no such kind", text=BASE + STAGE.replace("classify", "clasify"), says=":8: stages.0.kind: should be 'classify', 'extract', 'summarise', 'generate', 'translate', 'judge' or 'function', or module:name of your own (found 'clasify')"),
    Case(id="no such partitions", text=BASE.replace("by: day", "by: hour"), says=":5: partitions.by: should be 'day', 'week', 'month', 'folder' or 'shards' (found 'hour')"),
    Case(id="too much", text=added("  golden: {queries: q}\n  gates:\n    - {metric: mrr, min: 85}\n"), says=":8: gates.0.min: should be at most 1 (found 85)"),
    Case(id="too little", text=added("  signoff: {approvals: 0}\n"), says=":6: signoff.approvals: should be at least 1 (found 0)"),
    Case(
        id="two problems", text=BASE + STAGE.replace("A bill with amounts.", "bill").replace("A report on an accident.", "fire"),
        says=": 2 mistakes\n  {path}:10:27: stages.0.labels.0.description: should have at least 10 characters (found 'bill')"
        "\n  {path}:11:28: stages.0.labels.1.description: should have at least 10 characters (found 'fire')",
    ),
    # Dates
    Case(id="no such month", text=BASE.replace("2026-10-07", "2026-13-07"), says=":5: '2026-13-07' is no date: month must be in 1..12"),
    Case(id="date in another order", text=BASE.replace("2026-10-07", "07.10.2026"), says=":5: partitions.end: should be a date such as 2026-10-05 (found '07.10.2026')"),
    Case(id="end before start", text=BASE.replace("2026-10-07", "2026-10-01"), says=":5: partitions.end: 2026-10-01 is before the 'start' (2026-10-05)"),
    Case(id="end of time", text=BASE.replace("2026-10-07", "9999-12-31"), says=":5: partitions.end: 9999-12-31 is not between 1900-01-01 and 2199-12-31"),
    Case(id="no start", text=BASE.replace("start: 2026-10-05, ", ""), says=":5: partitions: partitions by day need a 'start' date"),
    Case(id="count of days", text=BASE.replace("by: day", "by: day, count: 5"), says=":5: partitions.count: it has no meaning for partitions by day"),
    Case(id="shards without count", text=BASE.replace("by: day, start: 2026-10-05, end: 2026-10-07", "by: shards"), says=":5: partitions: partitions by shards need a 'count'"),
    # What Dagster would refuse with a traceback
    Case(id="cron in words", text=added("  schedule: {cron: every night}\n"), says=":6: schedule.cron: 'every night' is not a cron expression such as '0 2 * * *': it has 2 fields, not 5"),
    Case(id="hour 25", text=added("  schedule: {cron: 0 25 * * *}\n"), says=":6: schedule.cron: '0 25 * * *' is not a cron expression such as '0 2 * * *': '25' is no hour"),
    Case(id="time zone", text=added("  schedule: {timezone: Europe/Berlni}\n"), says=":6: schedule.timezone: unknown time zone 'Europe/Berlni'; did you mean 'Europe/Berlin'?"),
    Case(id="owner", text=added("  owners: [ops]\n"), says=":6: owners: owner 'ops' is neither 'team:<name>' nor an e-mail address"),
    Case(id="owner beyond ASCII", text=added("  owners: [müller@firma.de]\n"), says=":6: owners: owner 'müller@firma.de' is neither 'team:<name>' nor an e-mail address"),
    Case(id="tenant", text=added("  tenant: Acme Corp\n"), says=":6: tenant: has characters that cannot stand there; it must match ^[A-Za-z0-9_.-]{1,63}$ (found 'Acme Corp')"),
    Case(id="warns too late", text=added("  freshness: {warn_after_hours: 9, fail_after_hours: 2}\n"), says=":6: freshness.warn_after_hours: it must be less than 'fail_after_hours' (2)"),
    # Parts that do not fit together
    Case(id="cycle", text=BASE + STAGE.replace("      kind: classify", WAITS % ("second", "invoice")) + SECOND.replace("      kind: classify", WAITS % ("kind", "invoice")),
         says=":8: stages.0.when: the stages depend on each other in a circle: kind -> second -> kind"),
    Case(id="waits for itself", text=BASE + STAGE.replace("      kind: classify", WAITS % ("kind", "invoice")), says=":8: stages.0.when: the stages depend on each other in a circle: kind -> kind"),
    Case(id="waits for no stage", text=BASE + STAGE.replace("      kind: classify", WAITS % ("kinds", "invoice")), says=":8: stages.0.when.kinds: stage 'kind' depends on unknown stage 'kinds'; did you mean 'kind'?"),
    Case(id="waits for no label", text=BASE + STAGE + SECOND.replace("      kind: classify", WAITS % ("kind", "invoices")), says=":13: stages.1.when.kind: stage 'second' waits for 'kind': unknown label 'invoices'; did you mean 'invoice'?"),
    Case(id="label twice", text=BASE + STAGE.replace("name: incident", "name: invoice"), says=":9: stages.0.labels: label 'invoice' is declared twice"),
    Case(id="one label", text=BASE + STAGE[: STAGE.index("        - {name: incident")], says=":9: stages.0.labels: should have at least 2 items"),
    Case(id="stage twice", text=BASE + STAGE + SECOND.replace("second", "kind"), says=":12: stages.1.name: stage 'kind' is declared twice"),
    Case(id="name of ours", text=BASE + STAGE.replace("- name: kind", "- name: chunks"), says=":7: stages.0.name: stage 'chunks' takes the name of a built-in asset; choose another"),
    Case(id="name with spaces", text=BASE + STAGE.replace("- name: kind", "- name: My Kind"), says=":7: stages.0.name: has characters that cannot stand there; it must match ^[a-z][a-z0-9_]*$ (found 'My Kind')"),
    Case(id="gate without queries", text=added("  gates:\n    - {metric: recall@5, min: 0.5}\n"), says=":7: gates.0: the gate on recall@5 needs golden queries, and none are declared"),
    Case(id="gate without labels", text=BASE + STAGE + "  gates:\n    - {metric: accuracy, min: 0.5}\n", says=":13: gates.0: the gate on accuracy needs golden labels, and none are declared"),
    Case(id="gate on no stage", text=BASE + STAGE + "  golden: {labels: l}\n  gates:\n    - {metric: accuracy, min: 0.5, stage: kin}\n", says=":14: gates.0.stage: unknown stage 'kin'; did you mean 'kind'?"),
    Case(id="golden labels for no stage", text=added("  golden: {labels: l}\n"), says=":6: golden.labels: golden labels are declared, but no stage that assigns labels"),
    Case(id="golden labels for which stage", text=BASE + STAGE + SECOND + "  golden: {labels: l}\n", says=":17: golden.labels: golden labels need 'labels_stage' where there are several stages (kind, second)"),
    Case(id="two embedders", text=added("  embedding: {backend: builtin, route: r, dimensions: 4}\n"), says=":6: embedding.backend: an embedding has a 'backend' or a 'route', not both"),
    Case(id="vectors of any length", text=added("  embedding: {route: r}\n"), says=":6: embedding.dimensions: is missing: say how long the vectors of the model on the route are"),
    Case(id="length of built-in vectors", text=added("  embedding: {dimensions: 256}\n"), says=":6: embedding.dimensions: it has no meaning without a 'route': built-in vectors are as long as they are"),
    Case(id="built-in vectors shortened", text=added("  embedding: {shorten: true}\n"), says=":6: embedding.shorten: it has no meaning without a 'route': built-in vectors are as long as they are"),
    Case(id="suite of nothing", text=added("  quality:\n    document: []\n"), says=":7: quality.document: quality suite for unknown asset 'document'; did you mean 'documents'?"),
    Case(id="expectation", text=added("  quality:\n    documents:\n      - {expect: expect_column_to_exst, column: a}\n"), says=":8: quality.documents.0: unknown expectation 'expect_column_to_exst'; did you mean 'expect_column_to_exist'?"),
    Case(id="more approvals than people", text=added("  signoff: {approvals: 2, approvers: [ann]}\n"), says=":6: signoff: 2 approvals are asked of only 1 approver"),
    # Not even YAML, or not ours
    Case(id="no source", text="type: ai_assets.DocumentCollection\nattributes:\n  partitions: {by: folder}\n", says=":2: source: is missing"),
    Case(id="no attributes", text="type: ai_assets.DocumentCollection\n", says=": 2 mistakes\n  {path}:1:1: source: is missing\n  {path}:1:1: partitions: is missing"),
    Case(id="attributes of another kind", text="type: ai_assets.DocumentCollection\nattributes: []\n", says=":2: should be keys with values"),
    Case(id="empty", text="", says=":1: expected 'type: ai_assets.DocumentCollection' and 'attributes:'"),
    Case(id="another type", text=BASE.replace("Collection", "Colection"), says=":1: expected 'type: ai_assets.DocumentCollection' and 'attributes:'"),
    Case(id="cut off", text=added("  owners: [a\n"), says=":7: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    Case(id="tab", text=added("\towners: x\n"), says=":6: not valid YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    Case(id="zero byte", text=added("  tenant: \0\n"), says=": not valid YAML: unacceptable character #x0000: special characters are not allowed"),
    Case(id="code", text=added("  tenant: !!python/object/apply:os.getcwd []\n"), says=":6: not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'"),
    Case(id="part of itself", text=added("  quality: &a\n    documents: *a\n"), says=": a part of it contains itself, or it is nested too deep"),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_a_wrong_file_is_refused_with_line_place_and_remedy(tmp_path: Path, case: Case) -> None:
    path = tmp_path / "notes" / "defs.yaml"
    path.parent.mkdir()
    path.write_text(case.text)
    with pytest.raises(CollectionInvalid) as refused:
        load_collection(tmp_path, "notes")
    assert str(refused.value) == f"{path}{case.says.replace('{path}', str(path))}"


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes" / "defs.yaml"
    path.parent.mkdir()
    path.write_bytes(b"type: \xff")
    with pytest.raises(CollectionInvalid, match=r"defs.yaml: not UTF-8 text \(byte 6\)"):
        load_collection(tmp_path, "notes")


@dataclass(frozen=True, kw_only=True)
class Golden:
    id: str
    golden: dict[str, str]
    files: dict[str, str]
    says: str
    error: type[UserError] = GoldenError


GOLDEN = [
    Golden(id="no such file", golden={"labels": "l.jsonl"}, files={}, error=CollectionInvalid,
           says="{folder}/defs.yaml:13: golden labels file {folder}/l.jsonl does not exist"),
    Golden(id="undeclared label", golden={"labels": "l.jsonl"},
           files={"l.jsonl": '{"document": "a", "label": "invoice"}\n{"document": "b", "label": "invoise"}\n'},
           says="{folder}/l.jsonl:2: unknown label 'invoise'; did you mean 'invoice'?"),
    Golden(id="unknown key", golden={"queries": "q.jsonl"}, files={"q.jsonl": '{"query": "a", "document": ["b"]}'},
           says="{folder}/q.jsonl:1: unknown key 'document'; did you mean 'documents'?"),
    Golden(id="not JSON", golden={"queries": "q.jsonl"}, files={"q.jsonl": "\nwho?\n"},
           says="{folder}/q.jsonl:2: not a JSON object on one line: Expecting value: line 1 column 1 (char 0)"),
    Golden(id="example leaks", golden={"queries": "q.jsonl"}, files={"q.jsonl": '{"query": " Total DUE ", "documents": ["b"]}'},
           error=CollectionInvalid, says="{folder}/defs.yaml:9: example 'Total DUE' is also a golden query; examples and golden data must not overlap"),
]  # fmt: skip


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.id)
def test_a_wrong_golden_file_is_refused_with_its_line(tmp_path: Path, case: Golden) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    stage = STAGE.replace("amounts.}", "amounts., examples: [total due]}")
    (folder / "defs.yaml").write_text(
        f"{BASE}{stage}  golden:\n" + "".join(f"    {k}: {v}\n" for k, v in case.golden.items())
    )
    for name, content in case.files.items():
        (folder / name).write_text(content)
    with pytest.raises(case.error) as refused:
        load_collection(tmp_path, "notes")
    assert str(refused.value) == case.says.format(folder=folder)


def test_the_command_shows_what_is_wrong_in_one_sentence_without_a_traceback(project: Project) -> None:
    project.declare()
    path = project.root / "collections" / "notes" / "defs.yaml"
    path.write_text(BASE + "  sorce: x\n")
    refused = project.cli("status", "notes")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"error: {path}:6: unknown key 'sorce'; did you mean 'source'?\n"


def test_a_collection_that_does_not_exist_is_refused_with_those_that_do(project: Project) -> None:
    project.declare("notes")
    for name in ("nodes", "../notes", "."):
        with pytest.raises(
            CollectionUnknown, match=r"There is no collection '.*' in .*/collections, .* \(found: notes\)"
        ):
            load_collection(project.root / "collections", name)


@pytest.mark.parametrize("name", ["My Notes", "notes__publish", "class", "input", "9lives", "a" * 61, "größe"])
def test_a_folder_whose_name_dagster_cannot_take_is_refused(project: Project, name: str) -> None:
    with pytest.raises(CollectionNameInvalid):
        project.declare(name)


def test_a_collection_cannot_take_the_name_of_our_own_assets(project: Project) -> None:
    with pytest.raises(CollectionNameTaken, match=r"'costs' cannot name a collection: .*those of the cost warehouse"):
        project.declare("costs")
    with pytest.raises(CollectionNameTaken, match="those of the cost warehouse"):
        load_collection(project.root / "collections", "costs")
    assert project.declare("cost").name == "cost"


def test_no_name_that_dagster_keeps_is_allowed() -> None:
    from dagster._core.definitions.utils import DISALLOWED_NAMES

    for name in DISALLOWED_NAMES:
        with pytest.raises(CollectionNameInvalid):
            check_name(name)
    assert RESERVED_NAMES <= DISALLOWED_NAMES


NUMBER = st.sampled_from([*map(str, range(10)), *(f"{number:02}" for number in range(100))])
PART = st.one_of(
    st.just("*"), st.sampled_from(["1", "2-5", "*/3", "jan", "mon"]), NUMBER, st.text(ascii_lowercase, min_size=3, max_size=3),
    st.tuples(NUMBER, NUMBER).map("-".join), NUMBER.map("*/{}".format),
)  # fmt: skip
FIELD = st.one_of(PART, st.tuples(PART, NUMBER).map(",".join))


@given(st.lists(FIELD, min_size=5, max_size=5).map(" ".join))
@example("0 2 * * *")
@example("*/15 0-6,22 1 jan-mar mon,fri")
@example("0 0 30 2 *")
@example("0 0 * * 7")
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_cron_expression_we_take_dagster_takes_too(cron: str) -> None:
    from dagster._utils.schedules import is_valid_cron_string

    try:
        ScheduleSettings(cron=cron)
    except ValueError:
        return
    assert is_valid_cron_string(cron)


# What a declaration becomes


def test_the_repository_declares_collections_that_load() -> None:
    root = REPOSITORY / "collections"
    assert [load_collection(root, path.parent.name).name for path in sorted(root.glob("*/defs.yaml"))]


def test_a_second_stage_follows_the_one_it_waits_for_wherever_it_is_written(project: Project) -> None:
    labels = [{"name": n, "description": f"A document on {n} matters."} for n in ("money", "people")]
    late = {"name": "late", "kind": "classify", "labels": labels, "when": {"early": ["money"]}}
    early = {"name": "early", "kind": "classify", "labels": labels}
    collection = project.declare(stages=[late, early])
    assert collection.asset_names == ("documents", "chunks", "embeddings", "early", "late", "release_candidate")
    assert collection.inputs_of("late") == ("documents", "early", "corrections")


@dataclass(frozen=True, kw_only=True)
class Edit:
    id: str
    change: Callable[[dict[str, Any]], object]
    stale: set[str]


def _golden(declared: dict[str, Any]) -> None:
    Path("collections/notes/q.jsonl").write_text('{"query": "leak", "documents": ["b"]}\n')


EDITS = [
    Edit(id="description", change=lambda d: d.update(description="Other words."), stale=set()),
    Edit(id="owner", change=lambda d: d.update(owners=["team:other"]), stale=set()),
    Edit(id="approvals", change=lambda d: d.update(signoff={"approvals": 2}), stale=set()),
    Edit(id="partition per run", change=lambda d: d["partitions"].update(per_run=2), stale=set()),
    Edit(id="label description", change=lambda d: d["stages"][0]["labels"][0].update(description="A bill, nothing else."), stale={"kind"}),
    Edit(id="chunk size", change=lambda d: d.update(chunking={"max_characters": 400}), stale={"chunks"}),
    Edit(id="text columns", change=lambda d: d["source"].update(tables={"csv": {"text": ["body"]}}), stale={"documents"}),
    Edit(id="limit of a file", change=lambda d: d["source"].update(max_bytes=1000), stale={"documents"}),
    Edit(id="time for a file", change=lambda d: d["source"].update(parse_timeout_s=5), stale={"documents"}),
    Edit(id="golden query", change=_golden, stale={"evaluation_scores"}),
    Edit(id="gate", change=lambda d: d.update(gates=[{"metric": "mrr", "min": 0.1}]), stale={"release_candidate"}),
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.id)
def test_an_edit_changes_the_code_versions_of_what_it_decides_and_no_other(project: Project, edit: Edit) -> None:
    (project.root / "collections" / "notes").mkdir()
    (project.root / "collections" / "notes" / "q.jsonl").write_text('{"query": "pump", "documents": ["a"]}\n')
    stage = yaml.safe_load(STAGE)["stages"][0]
    declared: dict[str, Any] = {
        "source": {"path": "documents"}, "stages": [stage], "golden": {"queries": "q.jsonl"},
        "partitions": {"by": "day", "start": "2026-10-05", "end": "2026-10-07"},
    }  # fmt: skip
    before = project.declare(**declared)
    versions = dict(before.code_versions)
    edit.change(declared)
    after = project.declare(**declared)
    assert {asset for asset, version in after.code_versions.items() if versions[asset] != version} == edit.stale
    assert (after.settings_digest != before.settings_digest) == bool(edit.stale)


def test_the_source_is_absolute_and_a_url_is_left_alone(project: Project) -> None:
    found: Collection = project.declare()
    assert found.source_path == str(project.root / "collections" / "notes" / "documents")
    assert project.declare(source={"path": "s3://bucket/prefix"}).source_path == "s3://bucket/prefix"
    assert COMPONENT_TYPE == "ai_assets.DocumentCollection"
