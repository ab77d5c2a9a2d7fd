"""Stages that are functions of the user's: everything a built-in kind has, and an answer is never paid twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from provider import Provider
from signing import decide

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.planning.plan import plan
from ai_assets.run.context import Work
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import RunEvent, Said
from ai_assets.run.explain import explain
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks
from ai_assets.signoff.publication import publish
from ai_assets.stages.function import Document, Quarantine, StageUnusable, checked, resolve

DAY = "2026-10-05"
KILLS = int(os.environ.get("AI_ASSETS_KILLS", "6"))
INFERENCE = """
endpoints:
  rehearsal:
    {base_url: rehearsal, model: rehearsal-mini, errors_are_free: true,
     prices: [{from: 2026-01-01, input: 1, output: 2}]}
routes: {default: {endpoints: [rehearsal]}}
"""
HEAD = "import ai_assets\nfrom ai_assets import Document, Quarantine, Stage, stage\n\n"
COUNT = """
@stage(columns={"words": int, "first": str, "long": bool, "share": float, "seen": list[str]})
def count(document: Document) -> dict:
    words = document.text.split()
    return {"words": len(words), "first": words[0], "long": len(words) > 5, "share": 1, "seen": words[:2]}
"""
ASK = """
@stage(columns={"answer": str}, after=["counted"])
async def chain(document: Document, ctx: Stage) -> dict:
    said = document.stages["counted"]["first"]
    for number in range(3):
        said = (await ctx.ask(f"Step {number}: {said[:40]}. " + document.quoted)).text
    return {"answer": said}
"""
COUNTED: Mapping[str, Any] = {"name": "counted", "kind": "function", "function": "./stages.py:count"}


def written(project: Project, source: str, *stages: Mapping[str, Any], number: int = 3, **more: Any) -> Collection:
    folder = project.root / "collections" / "notes"
    folder.mkdir(exist_ok=True)
    (folder / "stages.py").write_text(HEAD + source)
    (project.root / "inference.yaml").write_text(INFERENCE)
    for each in range(number):
        project.document(f"{DAY}/{each}.txt", f"Note {each} on the pump in hall {each * 7}, looked at on Monday.")
    resolve.cache_clear()
    return project.declare(stages=[dict(stage) for stage in stages], **more)


def rows_of(project: Project, collection: Collection, asset: str) -> list[dict[str, Any]]:
    lake = project.stores().lake
    manifest = lake.manifest(collection.name, asset, DAY)
    assert manifest is not None
    return list(lake.rows(manifest))


def test_its_rows_have_the_declared_columns_and_are_published(project: Project) -> None:
    collection = written(project, COUNT, COUNTED)
    project.refresh(collection)
    row = rows_of(project, collection, "counted")[1]
    assert {name: row[name] for name in ("words", "first", "long", "share", "seen", "status", "calls")} == {
        "words": 12, "first": "Note", "long": True, "share": 1.0, "seen": ["Note", "1"], "status": "ok", "calls": 0,
    }  # fmt: skip
    stores = project.stores()
    decide(stores.state, collection)
    release = publish(collection, stores, by="test").release
    assert release.documents == 3
    assert explain(collection, stores, f"{DAY}/1.txt")["live"]["counted"] == "Note"


def test_an_unchanged_document_is_not_given_to_it_again(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "seen"
    source = COUNT.replace(
        "    words =", f"    with open({str(log)!r}, 'a') as log:\n        log.write(document.id + '\\n')\n    words ="
    )
    collection = written(project, source, COUNTED)
    project.refresh(collection)
    project.edit(collection, f"{DAY}/1.txt", "Another text.")
    assert sorted(log.read_text().split()) == sorted([f"{DAY}/{n}.txt" for n in (0, 1, 1, 2)])


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        (COUNT.replace("    words =", "    # counts\n\n    words  ="), True),
        (COUNT.replace("-> dict:\n", '-> dict:\n    """Counts."""\n'), True),
        (COUNT + "\nUNUSED = 3\n", True),
        (COUNT.replace("> 5", "> 6"), False),
        (COUNT.replace("len(words) > 5", "len(words) > LIMIT") + "\nLIMIT = 5\n", False),
    ],
    ids=["comments and layout", "docstring", "what it does not name", "its code", "what it names"],
)
def test_it_is_stale_when_what_it_computes_may_have_changed(project: Project, edited: str, same: bool) -> None:
    before = written(project, COUNT, COUNTED).code_versions["counted"]
    assert (written(project, edited, COUNTED).code_versions["counted"] == before) is same


def test_what_it_names_in_its_module_counts_through_others(project: Project) -> None:
    source = COUNT.replace("> 5", "> limit()") + "\ndef limit():\n    return BASE\n\nBASE = 5\n"
    before = written(project, source, COUNTED).code_versions["counted"]
    assert written(project, source.replace("BASE = 5", "BASE = 6"), COUNTED).code_versions["counted"] != before


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 3", "it returned int, and a row is a dict with words"),
        ('return {"word": 3}', "it returned the column 'word', and declares words"),
        ('return {"words": "3"}', "it returned '3' in the column 'words', which is declared as integer"),
        ('raise Quarantine("no words here")', "no words here"),
        ("raise SystemExit(3)", "SystemExit: 3 (stages.py, line 6)"),
        ('return {"words": 1 / 0}', "ZeroDivisionError: division by zero (stages.py, line 6)"),
    ],
)
def test_what_goes_wrong_sets_the_document_aside_with_the_reason(project: Project, body: str, says: str) -> None:
    source = f'@stage(columns={{"words": int}})\ndef count(document: Document) -> dict:\n    {body}\n'
    collection = written(project, source, COUNTED, number=1)
    project.refresh(collection)
    (row,) = rows_of(project, collection, "counted")
    assert (row["status"], row["reason"]) == ("quarantined", says)


def test_a_failure_is_tried_again_and_a_quarantine_is_not(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "seen"
    note = f"    with open({str(log)!r}, 'a') as log:\n        log.write('x')\n"
    for body, tried in (('    raise Quarantine("no")\n', 1), ("    raise OSError('disk')\n", 2)):
        log.write_text("")
        source = f'@stage(columns={{"words": int}})\ndef count(document: Document) -> dict:\n{note}{body}'
        collection = written(project, source, COUNTED, number=1)
        project.refresh(collection)
        project.refresh(collection)
        assert len(log.read_text()) == tried


MANY = """
@stage(columns={"item": str, "price": float}, rows="many")
def items(document: Document) -> list:
    words = document.text.split()
    return [{"row_key": word, "item": word, "price": len(word)} for word in dict.fromkeys(words)][:2] * TIMES
"""
LINES: Mapping[str, Any] = {"name": "lines", "kind": "function", "function": "./stages.py:items"}


def test_it_may_make_many_rows_of_a_document(project: Project) -> None:
    collection = written(project, MANY + "TIMES = 1\n", LINES, number=2)
    project.refresh(collection)
    found = [(row["document_id"][-5:], row["row_key"], row["price"]) for row in rows_of(project, collection, "lines")]
    assert found == [("0.txt", "Note", 4.0), ("0.txt", "0", 1.0), ("1.txt", "Note", 4.0), ("1.txt", "1", 1.0)]
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    assert '"item":"Note"' in str(explain(collection, stores, f"{DAY}/1.txt")["live"]["lines"])


def test_keys_of_many_rows_must_differ(project: Project) -> None:
    collection = written(project, MANY + "TIMES = 2\n", LINES, number=1)
    project.refresh(collection)
    (row,) = rows_of(project, collection, "lines")
    assert row["reason"] == "it returned two rows with the row_key 'Note'"


@pytest.mark.slow
def test_pure_python_runs_in_processes(project: Project) -> None:
    source = (
        COUNT.replace('"seen": list[str]}', '"seen": list[str]}, cpu=True')
        .replace("    return {", "    import os\n    words.append(str(os.getpid()))\n    return {")
        .replace("words[:2]", "words[-1:]")
    )
    collection = written(project, source, COUNTED, number=3)
    project.refresh(collection)
    assert {row["seen"][0] for row in rows_of(project, collection, "counted")}.isdisjoint({str(os.getpid())})
    with pytest.raises(CollectionInvalid, match="runs in another process, and cannot ask models"):
        written(project, source, {**COUNTED, "route": "default"})


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({**COUNTED, "function": "./nowhere.py:count"}, "there is no file .*nowhere.py"),
        ({**COUNTED, "function": "no.such.module:count"}, "cannot be imported: ModuleNotFoundError"),
        ({**COUNTED, "function": "./stages.py:counts"}, r"has no 'counts'; stages there: count"),
        ({**COUNTED, "function": "./stages.py:plain"}, "is no stage: put @ai_assets.stage"),
        ({**COUNTED, "function": "count"}, "is neither 'package.module:function' nor"),
        ({**COUNTED, "route": "defualt"}, "unknown route or endpoint 'defualt'; did you mean 'default'"),
        ({**COUNTED, "prompt": "x.md"}, "'prompt' has no meaning for a function"),
    ],
)
def test_a_wrong_declaration_is_named_with_its_line(project: Project, stage: dict[str, Any], says: str) -> None:
    with pytest.raises(CollectionInvalid, match=says) as caught:
        written(project, COUNT + "\ndef plain(document):\n    return {}\n", stage)
    assert "defs.yaml:" in str(caught.value)


@pytest.mark.parametrize("columns", [{}, {"status": str}, {"a b": str}, {"a": dict}])
def test_columns_that_cannot_be_are_refused_where_they_are_written(columns: dict[str, Any]) -> None:
    from ai_assets import stage

    with pytest.raises(TypeError):
        stage(columns=columns)(lambda document: {})


CHAINED: Mapping[str, Any] = {
    "name": "chained",
    "kind": "function",
    "function": "./stages.py:chain",
    "route": "default",
}


def test_it_asks_models_through_the_ledger(project: Project, provider: Provider) -> None:
    collection = written(project, COUNT + ASK, COUNTED, CHAINED)
    outcomes = {outcome.manifest.asset: outcome for outcome in project.refresh(collection, [DAY])}
    rows = rows_of(project, collection, "chained")
    assert [row["calls"] for row in rows] == [3, 3, 3]
    assert outcomes["chained"].cost_usd > 0
    assert outcomes["chained"].cost_usd == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert len(provider.bills(every=True)) == 9
    project.home.lake.rename(project.home.lake.with_name("lost"))
    project.refresh(collection)
    assert rows_of(project, collection, "chained") == rows
    assert len(provider.bills(every=True)) == 9


def test_a_plan_says_what_it_cost_so_far(project: Project, provider: Provider) -> None:
    collection = written(project, COUNT + ASK, COUNTED, CHAINED)
    with project.work(collection) as work:
        first = plan(collection, work.stores, work.inference)
    assert any("what it costs is unknown before its first run" in note for note in first.notes), first
    project.refresh(collection)
    with project.work(collection) as work:
        again = plan(collection, work.stores, work.inference, partitions=[DAY])
    assert any("so far 3.0 calls and $0.00" in note and "at most 3 documents" in note for note in again.notes), (
        again.notes
    )


def test_a_question_without_an_answer_sets_the_document_aside(project: Project, provider: Provider) -> None:
    provider.script([{"match": "hall 7,", "fault": "context_too_long", "times": None}])
    collection = written(project, COUNT + ASK, COUNTED, CHAINED)
    project.refresh(collection)
    rows = {row["document_id"][-5:]: row for row in rows_of(project, collection, "chained")}
    assert [rows[f"{n}.txt"]["status"] for n in range(3)] == ["ok", "quarantined", "ok"]
    assert rows["1.txt"]["reason"].startswith("context_too_long: ")


def test_without_a_route_it_cannot_ask(project: Project, provider: Provider) -> None:
    collection = written(project, COUNT + ASK, COUNTED, {key: CHAINED[key] for key in ("name", "kind", "function")})
    with pytest.raises(PartitionsFailed, match="asks a model, and no route is declared for it"):
        project.refresh(collection)


def test_no_money_left_stops_the_stage_whatever_the_function_catches(project: Project, provider: Provider) -> None:
    greedy = ASK.replace("        said = (await", "        try:\n            said = (await").replace(
        ".quoted)).text\n", ".quoted)).text\n        except Exception:\n            pass\n"
    )
    (project.root / "x").touch()
    collection = written(project, COUNT + greedy, COUNTED, CHAINED)
    (project.root / "inference.yaml").write_text(INFERENCE + "budgets: [{name: all, limit_usd: 0.0000001}]\n")
    with pytest.raises(PartitionsFailed, match="budget"):
        project.refresh(collection)


PROMPTED = """
@stage(columns={"answer": str})
def ask_it(document: Document, ctx: Stage) -> dict:
    return {"answer": ctx.ask(prompt="prompts/it.md", text_of_it=document.text).text}
"""


def test_a_prompt_file_that_it_names_decides_its_rows(project: Project, provider: Provider) -> None:
    prompt = project.root / "collections" / "notes" / "prompts" / "it.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("Say it shortly: {{ text_of_it }}")
    declared = {"name": "it", "kind": "function", "function": "./stages.py:ask_it", "route": "default"}
    collection = written(project, PROMPTED, declared)
    project.refresh(collection)
    assert {row["calls"] for row in rows_of(project, collection, "it")} == {1}
    before = collection.code_versions["it"]
    prompt.write_text("Say it at length: {{ text_of_it }}")
    assert written(project, PROMPTED, declared).code_versions["it"] != before
    prompt.unlink()
    with pytest.raises(CollectionInvalid, match=r"its function names the prompt .*it.md, which does not exist"):
        written(project, PROMPTED, declared)


ASKED_BY_A_HELPER = """
if True:
    def ask_about(ctx: Stage, text: str) -> str:
        return ctx.ask(prompt="prompts/it.md", text_of_it=text).text

@stage(columns={"answer": str})
def ask_it(document: Document, ctx: Stage) -> dict:
    return {"answer": ask_about(ctx, document.text)}
"""


def test_a_prompt_file_counts_wherever_in_its_module_it_is_named(project: Project) -> None:
    prompt = project.root / "collections" / "notes" / "prompts" / "it.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("Say it shortly: {{ text_of_it }}")
    declared = {"name": "it", "kind": "function", "function": "./stages.py:ask_it", "route": "default"}
    before = written(project, ASKED_BY_A_HELPER, declared).code_versions["it"]
    prompt.write_text("Say it at length: {{ text_of_it }}")
    assert written(project, ASKED_BY_A_HELPER, declared).code_versions["it"] != before


RANDOM = ASK.replace('f"Step', 'f"{random.random()} Step').replace("\n@stage", "\nimport random\n\n@stage", 1)


@pytest.mark.slow
def test_a_function_that_asks_otherwise_when_it_goes_on_is_named(project: Project, provider: Provider) -> None:
    """Its third question fails for a document; when it is tried again the first two are other ones."""
    provider.script([{"match": "Step 2", "fault": "server_error", "times": None}])
    collection = written(project, COUNT + RANDOM, COUNTED, CHAINED, number=2)
    project.refresh(collection)
    provider.script([])
    said: list[str] = []

    class Hearing(Sink):
        hears = Said

        def hear(self, event: RunEvent) -> None:
            said.append(event.line)  # type: ignore[attr-defined]

    with Work(collection, project.stores(), "again", sinks=Sinks([Hearing()])) as work:
        list(refresh(work, [DAY]))
    assert sum("asked otherwise than before it was interrupted: 2 paid answers" in line for line in said) == 2, said


TEN = ASK.replace("range(3)", "range(10)")


@pytest.mark.slow
def test_killed_at_any_moment_no_answer_is_paid_again(project: Project, provider: Provider) -> None:
    collection = written(project, COUNT + TEN, COUNTED, CHAINED, number=200)
    unbroken = project.elsewhere()
    provider.configure(latency_ms=250)
    moments = random.Random(3)
    command = [Path(sys.executable).parent / "ai-assets", "run", "notes"]
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, cwd=project.root, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        asked = attempts(project)
        while attempts(project) == asked:  # however long it takes to start
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 3.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    project.refresh(collection)
    rows = rows_of(project, collection, "chained")
    assert [row["status"] for row in rows] == ["ok"] * 200
    assert keys_in(project, "ambiguous", 1)  # the kills came in the middle
    assert keys_in(project, "settled", 2) == []
    provider.configure(latency_ms=0)
    unbroken.refresh(collection)
    same = rows_of(unbroken, collection, "chained")
    assert [row["answer"] for row in rows] == [row["answer"] for row in same]


def attempts(project: Project) -> int:
    with project.stores().state.read() as connection:
        count: int = connection.execute(sa.text("SELECT count(*) FROM attempts")).scalar_one()
    return count


def keys_in(project: Project, state: str, times: int) -> list[str]:
    """Calls that have at least so many attempts in that state."""
    query = "SELECT call_key FROM attempts WHERE state = :state GROUP BY call_key HAVING count(*) >= :times"
    with project.stores().state.read() as connection:
        return list(connection.execute(sa.text(query), {"state": state, "times": times}).scalars())


def test_a_stage_can_be_tested_alone(project: Project) -> None:
    written(project, COUNT, COUNTED)
    spec = resolve(f"{project.root}/collections/notes/stages.py:count")
    document = Document(id="a", text="Two words", title=None, language=None, path="a", digest="0")
    assert spec.function(document)["words"] == 2
    with pytest.raises(Quarantine):
        checked(spec, {"words": 1.5})
    with pytest.raises(StageUnusable):
        resolve("json:dumps")


def test_the_example_takes_names_out_and_sets_short_documents_aside(project: Project, provider: Provider) -> None:
    declared = {"name": "redacted", "kind": "function", "function": "examples.own_stage:redact", "route": "default"}
    collection = written(project, COUNT, declared, number=1)
    project.document(f"{DAY}/short.txt", "Too short.")
    project.refresh(collection, [DAY])
    long, short = rows_of(project, collection, "redacted")
    assert (long["status"], long["calls"], long["found"]) == ("ok", 1, len(long["names"]))
    assert (short["status"], short["reason"]) == ("quarantined", "shorter than 20 characters")
