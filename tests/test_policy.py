"""Claims about policies in Rego: they forbid what they say, in their own words; what is wrong with them forbids."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Project
from desks import Visitor, served
from provider import Provider
from signing import PASSWORD, decide, known
from test_stage_settings import KIND, declare

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.desk.context import Desk
from ai_assets.policy.documents import INPUTS, PublicationInput, example, known_paths
from ai_assets.policy.errors import PublicationDenied, SpendingDenied
from ai_assets.policy.files import PolicySet
from ai_assets.policy.interpreter import interpreter
from ai_assets.policy.rego_text import RegoText
from ai_assets.policy.testing import run_tests
from ai_assets.policy.verdict import require_sound, verdict
from ai_assets.run.status import collection_status
from ai_assets.signoff import releases
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import release_digest
from ai_assets.storage.digest import digest
from ai_assets.storage.stores import Stores

DAYS = ["2026-10-05", "2026-10-06"]
HEAD = "package ai_assets.publication\n\n"
DEFAULT = Path(__file__).parents[1] / "ai_assets" / "policy" / "default"


def written(folder: Path, text: str, name: str = "rules.rego") -> PolicySet:
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / name).write_text(text)
    return PolicySet.of(folder, folder)


def asked(policies: PolicySet, timeout_s: float = 10.0) -> tuple[str, ...]:
    return verdict(policies, "publication", example(PublicationInput), timeout_s).denied


def live_number(stores: Stores) -> int:
    with stores.state.read() as connection:
        found = releases.live(connection, "notes")
    assert found is not None
    return found.number


# Publication


def test_what_a_policy_forbids_waits_and_the_rest_goes_live(project: Project, labelled: Collection) -> None:
    stores = project.stores()
    rule = 'deny contains message if {\n\tinput.partition == "2026-10-06"\n\tmessage := "not that day"\n}\n'
    policies = written(labelled.folder, HEAD + rule)
    decide(stores.state, labelled)
    done = publish(labelled, stores, by="test")
    assert done.partitions == [DAYS[0]]
    part = done.release.parts[DAYS[0]]
    assert part.policy == policies.digest
    assert done.release.digest == digest({DAYS[0]: [part.digest, policies.digest]}), "the release is of its policy too"
    assert collection_status(labelled, stores).forbidden == {DAYS[1]: ("not that day",)}
    with pytest.raises(PublicationDenied, match=r"Policy forbids to publish notes 2026-10-06: not that day\."):
        publish(labelled, stores, by="test")
    shutil.rmtree(labelled.folder / "policies")
    free = publish(labelled, stores, by="test").release
    assert free.parts[DAYS[1]].policy is None
    with stores.state.read() as connection:
        assert releases.live(connection, "notes") == free, "what was recorded of both is read back"
    assert release_digest(free.parts) == free.digest


def test_a_policy_that_changed_after_the_approval_is_asked_as_it_is_now(project: Project, labelled: Collection) -> None:
    stores = project.stores()
    decide(stores.state, labelled, DAYS[:1])
    rule = 'deny contains "two people" if count(input.request.approvals) < 2\n'
    written(labelled.folder, HEAD + rule)
    with pytest.raises(PublicationDenied, match="two people"):
        publish(labelled, stores, by="test")
    shown = project.cli("signoff", "show", "notes", DAYS[0]).stdout
    assert "policy forbids to publish it: two people" in shown
    tried = json.loads(project.cli("policy", "try", "notes", DAYS[0], "--json").stdout)
    assert [each["deny"] for each in tried] == [["two people"]]
    approved = tried[0]["input"]["request"]["approvals"]
    assert [each["person"] for each in approved] == ["ann"]
    assert tried[0]["input"]["candidate"]["documents"] == 3
    written(labelled.folder, HEAD + rule.replace("< 2", "< 1"))
    assert publish(labelled, stores, by="test").partitions == DAYS[:1]


def test_the_desk_shows_why_and_rules_of_access_hold_there(desk: Desk, labelled: Collection, ann: Person) -> None:
    known(desk.stores.state, "bob", "viewer")
    written(labelled.folder, HEAD + 'deny contains "the auditors are in the house" if input.tenant == "default"\n')
    rules = """package ai_assets.access

deny contains "bob is on leave" if input.person.name == "bob"

deny contains "October is closed" if {
	input.action == "approve"
	startswith(input.partition, "2026-10")
}
"""
    written(labelled.folder, rules, "access.rego")
    with served(desk) as running:
        visitor, other = Visitor(running.url), Visitor(running.url)
        visitor.sign_in("ann")
        with desk.stores.state.read() as connection:
            query = sa.text("SELECT request_id, digest FROM review_requests WHERE partition = :p")
            request_id, seen = connection.execute(query, {"p": DAYS[0]}).one()
        page = visitor.get(f"/requests/{request_id}")
        assert "the auditors are in the house" in page.text
        sent = {"verdict": "approve", "digest": seen, "confirmed": "yes"}
        refused = visitor.submit(f"/requests/{request_id}/decision", **sent)
        assert "October is closed" in refused.text
        other.sign_in("bob")
        assert other.get(f"/requests/{request_id}").status_code == 404, "what may not be opened is not there"
        visitor.http.close()
        other.http.close()
    with desk.stores.state.read() as connection:
        assert connection.execute(query, {"p": DAYS[0]}).one()
        states = connection.execute(sa.text("SELECT DISTINCT status FROM review_requests")).scalars().all()
    assert states == ["open"]


def test_the_command_line_asks_about_access_too(project: Project, labelled: Collection) -> None:
    known(project.stores().state, "ann")
    written(labelled.folder, 'package ai_assets.access\n\ndeny contains "not today" if input.action != "open"\n')
    for command in (["signoff", "approve", "notes", DAYS[0], "--by", "ann"], ["run", "notes", "--by", "ann"]):
        done = project.cli(*command, AI_ASSETS_PASSWORD=PASSWORD)
        assert (done.returncode, "not today" in done.stderr) == (2, True), done


def test_leaving_the_name_out_is_no_way_around_a_rule(project: Project, labelled: Collection) -> None:
    written(labelled.folder, 'package ai_assets.access\n\ndeny contains "say who you are" if input.person.name == ""\n')
    known(project.stores().state, "ann")
    done = project.cli("run", "notes")
    assert (done.returncode, "say who you are" in done.stderr) == (2, True), done
    assert "whoever gives no name (--by) to start in notes" in done.stderr
    tried = json.loads(project.cli("policy", "try", "notes", "--rules", "access", "--json").stdout)
    assert (tried[0]["deny"], tried[0]["input"]["person"]["role"]) == (["say who you are"], None)
    done = project.cli("run", "notes", "--by", "ann", AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr


def test_rules_of_access_are_asked_at_a_rollback_and_those_of_publication_are_not(
    project: Project, labelled: Collection, desk: Desk, ann: Person
) -> None:
    stores = project.stores()
    for text in ("one", "two"):
        project.document(f"{DAYS[0]}/one.txt", f"Invoice {text}. The total is 5.00.")
        project.refresh(labelled)
        decide(stores.state, labelled)
        publish(labelled, stores, by="test")
    written(labelled.folder, HEAD + 'deny contains "nothing goes live any more" if input.tenant == "default"\n')
    rule = 'package ai_assets.access\n\ndeny contains "ask the owner first" if input.action == "roll back"\n'
    written(labelled.folder, rule, "access.rego")
    command = ["releases", "rollback", "notes", "--by", "ann", "--reason", "it is wrong"]
    done = project.cli(*command, AI_ASSETS_PASSWORD=PASSWORD)
    assert (done.returncode, "ask the owner first" in done.stderr) == (2, True), done
    with served(desk) as running:
        visitor = Visitor(running.url)
        visitor.sign_in("ann")
        sent = {"number": "1", "reason": "it is wrong", "confirmed": "yes"}
        assert "ask the owner first" in visitor.submit("/releases/notes/rollback", **sent).text
        visitor.http.close()
    assert live_number(stores) == 2
    written(labelled.folder, rule.replace("roll back", "never"), "access.rego")
    done = project.cli(*command, AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert live_number(stores) == 1


# Spending


def test_a_run_that_may_not_spend_asks_no_model(project: Project, provider: Provider) -> None:
    (project.root / "inference.yaml").write_text(
        "endpoints: {small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}}\n"
        "routes: {default: {endpoints: [small]}}\nbudgets: [{name: all, per: day, limit_usd: 5}]\n"
    )
    project.document(f"{DAYS[0]}/bill.txt", "Invoice 1. The total due is 50.00 EUR.")
    collection = declare(project, [KIND])
    rule = """package ai_assets.spending

deny contains message if {
	some call in input.calls
	some model in call.models
	model.model == "mini"
	some budget in input.budgets
	message := sprintf("%s may not ask %s, with %d dollars left", [call.asset, model.model, budget.left_usd])
}
"""
    written(collection.folder, rule)
    with pytest.raises(SpendingDenied, match=r"kind may not ask mini, with 5 dollars left\. No model was asked"):
        project.refresh(collection, [DAYS[0]])
    with project.stores().state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM attempts")).scalar_one() == 0
    plan = json.loads(project.cli("plan", "notes", "--json").stdout)
    assert plan["policy_denies"] == ["kind may not ask mini, with 5 dollars left"]
    backfill = project.cli("backfill", "notes", "--yes")
    assert (backfill.returncode, "may not ask mini" in backfill.stderr) == (2, True), backfill


# What is wrong with a policy forbids

WRONG_WHEN_ASKED = {
    "raises": ('deny contains "x" if to_number(concat("", ["x", input.tenant])) == 3', "it failed"),
    "conflict": ("v := 1 if true\n\nv := 2 if true\n\ndeny contains v if true", "it failed"),
    "no set": ("deny := true if input.partition", "not a set of sentences"),
    "old style": ('deny[message] { message := "x" }', "not a set of sentences"),
    "crash": (
        'deny contains "x" if count(also) == 0 with input as {"now": 2}\n\nalso contains 1 if input.now > 1',
        "ended",
    ),
}


@pytest.mark.parametrize("name", WRONG_WHEN_ASKED)
def test_a_policy_that_cannot_answer_denies_and_says_where(name: str, tmp_path: Path) -> None:
    text, said = WRONG_WHEN_ASKED[name]
    (only,) = asked(written(tmp_path, HEAD + text))
    assert said in only
    assert (
        f"{tmp_path}/policies/rules.rego:{5 if name == 'conflict' and 'x' not in only else 3}" in only
        or "v := 2" in text
    )
    assert asked(written(tmp_path, HEAD + 'deny contains "well" if true')) == ("well",), "the next one is answered"


def test_a_policy_that_takes_too_long_denies(tmp_path: Path) -> None:
    lines = ["some a in numbers.range(1, 9000)", "some b in numbers.range(1, 9000)", "a * b == -1"]
    rule = f'deny contains "x" if {{\n\t{"; ".join(lines)}\n}}\n'
    (only,) = asked(written(tmp_path, HEAD + rule), timeout_s=0.5)
    assert "takes longer than 0.5 s" in only
    assert asked(written(tmp_path, HEAD + 'deny contains "well" if true')) == ("well",)


def test_without_the_interpreter_everything_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = written(tmp_path, HEAD + 'deny contains "x" if false')
    assert asked(policies) == ()
    monkeypatch.setitem(sys.modules, "regopy", None)
    (only,) = asked(policies)
    assert "pip install 'ai-assets[policy]'" in only
    require_sound(policies)  # a machine without it can still load definitions


WRONG_AT_LOAD = {
    "syntax": ('deny contains "x" if {\n\tinput.partition ==\n}', 4, "Invalid"),
    "function": ('deny contains "x" if {\n\thttp.send({})\n}', 4, "no function 'http.send'"),
    "input": ('deny contains "x" if input.candidate.cost > 1', 3, "no 'input.candidate.cost'"),
    "name": ('deny contains "x" if yes == 1', 3, "nothing defines 'yes'"),
    "rule": ('forbid contains "x" if true', 1, "no rule `deny"),
}


@pytest.mark.parametrize("name", WRONG_AT_LOAD)
def test_a_policy_is_checked_when_its_collection_is_loaded(name: str, project: Project) -> None:
    text, line, said = WRONG_AT_LOAD[name]
    collection = project.declare()
    policies = written(collection.folder, HEAD + text)
    with pytest.raises(DeclarationInvalid) as raised:
        load_collection(project.root / "collections", "notes")
    assert any(f"rules.rego:{line}:" in line_ and said in line_ for line_ in str(raised.value).splitlines()), (
        raised.value
    )
    if name != "function":  # only the interpreter knows that, and it says so when it is asked
        assert asked(policies), "what cannot be believed denies"


def test_a_package_that_nothing_asks_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DeclarationInvalid, match=r"rules\.rego:1: nothing asks the package 'ai_assets\.publications'"):
        require_sound(written(tmp_path, 'package ai_assets.publications\n\ndeny contains "x" if true\n'))


# Tests of policies


def test_the_default_policy_is_copied_tested_and_found_wanting(project: Project, labelled: Collection) -> None:
    assert project.cli("policy", "init", "notes").returncode == 0
    assert project.cli("policy", "init", "notes").returncode == 2, "nothing is overwritten"
    done = project.cli("policy", "test", "notes")
    assert (done.returncode, done.stdout) == (0, "6 of 6 tests pass.\n"), done
    limits = labelled.folder / "policies" / "limits.rego"
    limits.write_text(limits.read_text().replace("approvals := 1", "approvals := 2"))
    done = project.cli("policy", "test", "notes")
    assert done.returncode == 1
    assert "publication_test.rego:21: test_what_is_in_order_is_let_through" in done.stdout
    stores = project.stores()
    decide(stores.state, labelled)
    with pytest.raises(PublicationDenied, match="1 of 2 approvals by different people"):
        publish(labelled, stores, by="test")


def test_the_default_policy_lets_through_what_the_code_does(project: Project, labelled: Collection) -> None:
    shutil.copytree(DEFAULT, project.root / "policies")
    stores = project.stores()
    decide(stores.state, labelled)
    assert publish(labelled, stores, by="test").partitions == DAYS


def test_a_test_that_is_none_says_so(tmp_path: Path) -> None:
    text = (
        HEAD
        + 'deny contains "x" if input.now == "1"\n\n'
        + (
            'test_two if {\n\tcount(deny) == 1 with input as {"now": "1"}\n'
            '\tcount(deny) == 0 with input as {"now": "2"}\n}\n\n'
            'test_plain if "x" in deny with input as {"now": "1"}\n\ntest_number if 1 in {2}\n'
        )
    )
    found = {each.name: (each.passed, each.problem or "") for each in run_tests(written(tmp_path, text))}
    assert found["test_plain"] == (True, "")
    assert found["test_number"] == (False, "")
    assert "it names 2 inputs" in found["test_two"][1]


def test_what_rego_is_made_of_is_found_in_its_text() -> None:
    rego = RegoText(
        'package a.b # input.no\nimport data.c as d\n\nx := `input.no` if { input.a.b == "input.no"; f(d.g(1)) }\n'
    )
    assert (rego.package and rego.package.name, rego.imported) == ("a.b", {"d"})
    assert [each.name for each in rego.reads()] == ["a.b"]
    assert [each.name for each in rego.calls()] == ["f", "d.g"]
    assert [rule.name for rule in rego.rules] == ["x"]


@pytest.mark.parametrize("kind", INPUTS)
def test_every_path_of_an_input_is_documented(kind: str) -> None:
    page = (Path(__file__).parents[1] / "docs" / "policy.md").read_text()
    for path in known_paths(kind):
        assert f"`{path}`" in page or f"`{path.rpartition('.')[2]}`" in page, f"docs/policy.md does not say {path}"


def test_what_the_interpreter_prints_is_no_answer(tmp_path: Path) -> None:
    policies = written(tmp_path, HEAD + 'deny contains "well" if print("noise", input.now)\n')
    assert asked(policies) == ("well",)
    interpreter().close()
    assert asked(policies) == ("well",), "a lost interpreter is started again"


def test_an_auditor_proves_a_release_that_policies_let_through(project: Project, labelled: Collection) -> None:
    stores = project.stores()
    written(labelled.folder, HEAD + 'deny contains "x" if input.tenant == "nobody"\n')
    decide(stores.state, labelled)
    publish(labelled, stores, by="test")
    proof = project.root / "proof.json"
    made = project.cli("audit", "prove", "notes", "--out", str(proof))
    assert made.returncode == 0, made
    command = [sys.executable, str(proof.with_name("verify_proof.py")), str(proof)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "PROVED: release 1" in done.stdout) == (0, True), done
    proof.write_text(proof.read_text().replace(labelled.policies.digest, "0" * 64))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0, "the policies are proved too"
