# ruff: noqa: E501  a mistake that is found is a row, and a row is a line
"""Claims about files with several mistakes: one error names them all, each with its place, in order of the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Project

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.mistakes import MOST_SHOWN
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import load_collection
from ai_assets.desk.settings import load_desk
from ai_assets.evaluation.errors import GoldenError
from ai_assets.evaluation.golden import read_golden_labels
from ai_assets.inference.load import load_inference
from ai_assets.ops.dagster_client import essential_message
from ai_assets.run.operations import load_operations

BASE = """\
type: ai_assets.DocumentCollection
attributes:
  source:
    path: documents
  partitions: {by: folder}
"""
STAGE = """\
  stages:
    - name: kind
      kind: classify
      labels:
        - {name: invoice, description: A bill with amounts.}
        - {name: incident, description: A report on an accident.}
"""
ENDPOINTS = """\
endpoints:
  mini: {base_url: rehearsal, model: mini-1, free: true}
"""
ASKING = """\
    - {name: short, kind: summarise, route: nowhere}
    - {name: long, kind: summarise, route: min, prompt: prompts/none.md}
"""
GOLDEN = "  golden: {labels: l.jsonl, queries: q.jsonl}\n"


def a_collection(folder: Path) -> object:
    return load_collection(folder, "notes")


def a_desk(folder: Path) -> object:
    return load_desk(folder / "desk.yaml")


def an_inference(folder: Path) -> object:
    return load_inference(folder / "inference.yaml")


def operations(folder: Path) -> object:
    return load_operations(folder / "operations.yaml")


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    read: Callable[[Path], object]
    files: Mapping[str, str]
    says: tuple[str, ...]
    """The lines of the error after the first, each without the folder."""


WRONG = [
    Wrong(id="types, bounds and keys", read=a_collection,
          files={"notes/defs.yaml": BASE + "  watch: perhaps\n  sorce: x\n  chunking: {max_characters: 3}\n"},
          says=("notes/defs.yaml:6:3: watch: should be true or false (found 'perhaps')",
                "notes/defs.yaml:7:3: unknown key 'sorce'; did you mean 'source'?",
                "notes/defs.yaml:8:14: chunking.max_characters: should be at least 50 (found 3)")),
    Wrong(id="unknown keys at several levels, and a misspelt one that is needed", read=a_collection,
          files={"notes/defs.yaml": BASE.replace("path:", "paht:").replace("by: folder", "by: folder, pre_run: 3") + "  signoff: {approver: [a]}\n"},
          says=("notes/defs.yaml:4:5: source: unknown key 'paht'; did you mean 'path'?",
                "notes/defs.yaml:5:28: partitions: unknown key 'pre_run'; did you mean 'per_run'?",
                "notes/defs.yaml:6:13: signoff: unknown key 'approver'; did you mean 'approvers'?")),
    Wrong(id="keys of the file and in it", read=a_collection,
          files={"notes/defs.yaml": BASE + "  tenat: a\natributes: {}\n"},
          says=("notes/defs.yaml:6:3: unknown key 'tenat'; did you mean 'tenant'?",
                "notes/defs.yaml:7:1: unknown key 'atributes'; did you mean 'attributes'?")),
    Wrong(id="keys twice and no date", read=a_collection,
          files={"notes/defs.yaml": BASE + "  tenant: a\n  tenant: b\n  tenant: c\n  freshness: 2026-13-01\n"},
          says=("notes/defs.yaml:7:3: key 'tenant' is here already, on line 6",
                "notes/defs.yaml:8:3: key 'tenant' is here already, on line 6",
                "notes/defs.yaml:9:14: '2026-13-01' is no date: month must be in 1..12")),
    Wrong(id="parts that do not fit", read=a_collection,
          files={"notes/defs.yaml": BASE + STAGE + "      after: [kinds]\n      route: r\n  gates:\n    - {metric: acuracy, min: 1}\n    - {metric: mrr, min: 1}\n  quality: {document: []}\n"},
          says=("notes/defs.yaml:12:15: stages.0.after.0: stage 'kind' depends on unknown stage 'kinds'; did you mean 'kind'?",
                "notes/defs.yaml:15:8: gates.0.metric: unknown metric 'acuracy'; did you mean 'accuracy'?",
                "notes/defs.yaml:16:7: gates.1: the gate on mrr needs golden queries, and none are declared",
                "notes/defs.yaml:17:13: quality.document: quality suite for unknown asset 'document'; did you mean 'documents'?")),
    Wrong(id="routes and prompts that do not exist", read=a_collection,
          files={"notes/defs.yaml": BASE + "  stages:\n" + ASKING, "inference.yaml": ENDPOINTS},
          says=("notes/defs.yaml:7:38: stages.0.route: unknown route or endpoint 'nowhere'; known here: mini",
                "notes/defs.yaml:8:37: stages.1.route: unknown route or endpoint 'min'; did you mean 'mini'?",
                "notes/defs.yaml:8:49: stages.1.prompt: the prompt file {folder}/notes/prompts/none.md does not exist")),
    Wrong(id="golden data with what declares it", read=a_collection,
          files={"notes/defs.yaml": BASE + STAGE + "    - {name: short, kind: summarise, route: nowhere}\n" + GOLDEN, "inference.yaml": ENDPOINTS,
                 "notes/l.jsonl": '{"document": "a", "label": "invoise"}\n{"document": "b", "label": "invoice"}\n{"document": "b", "label": "incident"}\n'},
          says=("notes/defs.yaml:12:38: stages.1.route: unknown route or endpoint 'nowhere'; known here: mini",
                "notes/defs.yaml:13:29: golden queries file {folder}/notes/q.jsonl does not exist",
                "notes/l.jsonl:1: unknown label 'invoise'; did you mean 'invoice'?",
                "notes/l.jsonl:3: 'b' is incident here, but invoice on line 2; keep one")),
    Wrong(id="golden queries", read=a_collection,
          files={"notes/defs.yaml": BASE + STAGE + GOLDEN, "notes/l.jsonl": '{"document": "a", "label": "invoice"}\n',
                 "notes/q.jsonl": '{"query": "a", "document": ["b"]}\n\nwho?\n{"query": "c", "documents": ["d", "d"]}\n'},
          says=("notes/q.jsonl:1: unknown key 'document'; did you mean 'documents'?",
                "notes/q.jsonl:3: not a JSON object on one line: Expecting value: line 1 column 1 (char 0)",
                "notes/q.jsonl:4: names the document 'd' twice")),
    Wrong(id="parts of one's own", read=a_collection,
          files={"notes/defs.yaml": BASE + "  metrics: ['nowhere:a']\n  checks: ['nowhere:b']\n  publish: {to: ['nowhere:c']}\n"},
          says=("notes/defs.yaml:6:13: metrics.0: ", "notes/defs.yaml:7:12: checks.0: ", "notes/defs.yaml:8:18: publish.to.0: ")),
    Wrong(id="a prompt", read=a_collection,
          files={"notes/defs.yaml": BASE + "  stages:\n    - {name: short, kind: summarise, route: mini, prompt: p.md}\n", "inference.yaml": ENDPOINTS,
                 "notes/p.md": "---\nversoin: 1\nauthor: [a]\n---\nHello.\n\n## user\n<document>{{ document.text }}</document>\n"},
          says=("notes/p.md:2:1: unknown key 'versoin'; did you mean 'version'?", "notes/p.md:3:1: author: should be text",
                "notes/p.md:5: expected '## system' or '## user', found 'Hello.'")),
    Wrong(id="both sections of a prompt", read=a_collection,
          files={"notes/defs.yaml": BASE + "  stages:\n    - {name: short, kind: summarise, route: mini, prompt: p.md}\n", "inference.yaml": ENDPOINTS,
                 "notes/p.md": "---\nversion: 1\nauthor: a\n---\n## system\nAt most {{ limts }}.\n\n## user\n<document>{{ document.txt }}</document>\n"},
          says=("notes/p.md:6: unknown variable 'limts'; did you mean 'limits'?", "notes/p.md:9: document has no 'txt'; did you mean 'text'?")),
    Wrong(id="inference: types, keys and what is missing", read=an_inference,
          files={"inference.yaml": "endpoints:\n  mini: {base_url: rehearsal, modle: m}\nretry_share: 2\nbudgets: [{name: a}]\n"},
          says=("inference.yaml:2:31: endpoints.mini: unknown key 'modle'; did you mean 'model'?",
                "inference.yaml:3:1: retry_share: should be at most 1 (found 2)",
                "inference.yaml:4:11: budgets.0.limit_usd: is missing")),
    Wrong(id="inference: parts that do not fit", read=an_inference,
          files={"inference.yaml": ENDPOINTS + "routes:\n  main: {endpoints: [mni]}\n  mini: {endpoints: [mini]}\nretries: {clasify: {}}\n"},
          says=("inference.yaml:4:22: routes.main.endpoints.0: unknown endpoint 'mni'; did you mean 'mini'?",
                "inference.yaml:5:3: routes.mini: an endpoint has that name, and a request names either; choose another",
                "inference.yaml:6:11: retries.clasify: 'clasify' is no kind of stage; did you mean 'classify'?")),
    Wrong(id="inference: protocols", read=an_inference,
          files={"inference.yaml": "endpoints:\n" + "".join(f"  {name}: {{base_url: rehearsal, model: m, free: true, protocol: nowhere:{name}}}\n" for name in ("a", "b", "c"))},
          says=("inference.yaml:2:50: endpoints.a.protocol: ", "inference.yaml:3:50: endpoints.b.protocol: ", "inference.yaml:4:50: endpoints.c.protocol: ")),
    Wrong(id="desk", read=a_desk,
          files={"desk.yaml": "url: here\nsesions: {}\nsign_in: {local: false}\n"},
          says=("desk.yaml:1:1: url: 'here' is no web address", "desk.yaml:2:1: unknown key 'sesions'; did you mean 'sessions'?",
                "desk.yaml:3:11: sign_in.local: is off, and neither 'proxy' nor 'oidc' is declared: nobody could sign in")),
    Wrong(id="operations", read=operations,
          files={"operations.yaml": "retention:\n  every_hours: 0\n  log_gb: 1\n  enabled: maybe\n"},
          says=("operations.yaml:2:3: retention.every_hours: should be more than 0 (found 0)",
                "operations.yaml:3:3: retention: unknown key 'log_gb'; did you mean 'log_mb'?",
                "operations.yaml:4:3: retention.enabled: should be true or false (found 'maybe')")),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_one_error_names_every_mistake_with_its_place_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Wrong
) -> None:
    monkeypatch.setenv("AI_ASSETS_INFERENCE", str(tmp_path / "inference.yaml"))
    for name, text in case.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DeclarationInvalid) as refused:
        case.read(tmp_path)
    first, *lines = str(refused.value).splitlines()
    assert first.endswith(f": {len(case.says)} mistakes")
    assert len(lines) == len(case.says)
    for line, says in zip(lines, case.says, strict=True):
        assert line.startswith(f"  {tmp_path}/{says.format(folder=tmp_path)}")


def test_a_text_with_a_comma_that_is_not_in_quotes_is_told_from_a_misspelt_key(tmp_path: Path) -> None:
    path = tmp_path / "notes" / "defs.yaml"
    path.parent.mkdir()
    for given, hinted in (("by: folder, of the shift", True), ("by: folder, of the shift: 3", False)):
        path.write_text(BASE.replace("by: folder", given))
        with pytest.raises(DeclarationInvalid, match="unknown key 'of the shift'") as refused:
            a_collection(tmp_path)
        assert ("in braces a text that has a comma must stand in quotes" in str(refused.value)) == hinted


def test_of_a_file_of_another_format_the_first_lines_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text("document,label\n" * 500)
    with pytest.raises(GoldenError) as refused:
        read_golden_labels(path, ["invoice"])
    first, *lines = str(refused.value).splitlines()
    assert first == f"{path}: 500 mistakes"
    numbers = [line.removeprefix(f"  {path}:").partition(":")[0] for line in lines[:-1]]
    assert numbers == [str(number) for number in range(1, MOST_SHOWN + 1)]
    assert lines[-1] == f"  and {500 - MOST_SHOWN} more"


def test_an_inference_file_that_several_stages_need_is_told_once(project: Project) -> None:
    (project.root / "inference.yaml").write_text("retry_share: 2\n")
    with pytest.raises(DeclarationInvalid) as refused:
        project.declare(
            stages=[{"name": "short", "kind": "summarise", "route": "r"}],
            embedding={"route": "r", "dimensions": 3},
        )
    assert str(refused.value).endswith("inference.yaml:1: retry_share: should be at most 1 (found 2)")
    assert "\n" not in str(refused.value)


def test_mistakes_of_a_single_file_of_a_collection_keep_its_class(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "defs.yaml").write_text(BASE + "  watch: perhaps\n  sorce: x\n")
    with pytest.raises(CollectionInvalid) as refused:
        load_collection(tmp_path, "notes")
    assert [mistake.line for mistake in refused.value.mistakes] == [6, 7]


def test_what_up_says_of_definitions_that_dagster_refuses_has_every_line() -> None:
    told = "a/defs.yaml: 2 mistakes\n  a/defs.yaml:6:3: x\n  a/defs.yaml:7:3: y"
    name = f"{CollectionInvalid.__module__}.CollectionInvalid"
    cause = {"className": "CollectionInvalid", "message": f"{name}: {told}\n", "stack": []}
    outer = {"className": "DagsterError", "message": "dagster.DagsterError: it broke\n", "stack": [], "causes": [cause]}
    assert essential_message(outer) == told
