"""No page and no call of the API shows one tenant anything of another: every address the application has is walked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from desks import PLAIN, Visitor, served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Mount, Route
from tenant_world import MARKS, OPEN, OWN, TenantWorld, tenant_world

import ai_assets.desk
from ai_assets.cli.commands import LoadedCommands
from ai_assets.desk.app import create_app
from ai_assets.desk.costs_sections import SECTIONS
from ai_assets.desk.pages.people import ACTS
from ai_assets.desk.settings import MetricsSettings
from ai_assets.signoff import audit

DESK = Path(ai_assets.desk.__file__).parent
SOURCE = "\n".join(path.read_text() for folder in (DESK, DESK / "pages") for path in folder.glob("*.py"))
QUERIES = sorted(set(re.findall(r'query_params(?:\.get\(|, )"([a-z_]+)"', SOURCE)) | {
    "collection", "actor", "action", "since", "until", "days", "from", "to", "by", "show", "claim", "first", "last",
    "person", "status", "stage", "label", "search", "base",
})  # fmt: skip
FIELDS = sorted(set(re.findall(r'form\.(?:one|exact|every)\("([a-z_]+)"', SOURCE)))
OF_PATH: Mapping[str, Sequence[str]] = {
    "/costs/{name}.csv": list(SECTIONS), "/people/{act}": list(ACTS), "/people/{name}": ["person"],
}  # fmt: skip
"""What stands for the last part of an address that is no identifier of a collection's."""
PARAMETERS = ("request_id", "collection", "number", "call", "run_id", "judge")
BODIES: Mapping[str, Mapping[str, Any]] = {
    "/api/unanswered/ask-again": {"collection": "collection", "partition": OPEN, "document_id": "document"},
    "/api/runs/{collection}/start": {"kind": "due", "launch_id": "digest"},
    "/api/runs/{collection}/stop": {},
    "/api/decisions": {"choices": [{"request_id": "request_id", "digest": "digest"}], "verdict": "approve"},
    "/api/requests/{request_id}/ask-again": {"reason": "again"},
    "/api/requests/{request_id}/claim": {"person": "person"},
    "/api/requests/{request_id}/unclaim": {},
    "/api/requests/{request_id}/notes": {"document_id": "document", "kind": "comment", "text": "seen"},
    "/api/requests/{request_id}/corrections": {"document_id": "document", "stage": "stage", "label": "label"},
    "/api/golden/{collection}/item": {"document_id": "document", "act": "retire", "reason": "blurred"},
    "/api/golden/{collection}/ratings/{judge}/rate": {"document_id": "document", "output": "digest", "rating": "1"},
    "/api/golden/{collection}/ratings/{judge}/withdraw": {"document_id": "document", "output": "digest"},
    "/api/releases/{collection}/rollback": {"number": 1, "reason": "back"},
}  # fmt: skip
"""What a call of the API sends; a text that is the name of an identifier stands for it."""
FREE = ("/sign-in", "/sign-in/oidc", "/sign-in/callback", "/sign-out", "/health")
"""Where nobody is asked who they are, and nothing of anybody is known."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TenantWorld]:
    with tenant_world(tmp_path_factory.mktemp("tenants")) as found:
        yield found


@pytest.fixture(scope="module")
def anna(world: TenantWorld) -> Visitor:
    return world.visitor("anna")


@pytest.fixture(scope="module")
def routes(world: TenantWorld) -> list[tuple[str, str]]:
    """Method and path of all that the application answers."""
    return list(routes_in(create_app(world.desk).routes, ""))


def routes_in(found: Sequence[Any], above: str) -> Iterator[tuple[str, str]]:
    for route in found:
        if isinstance(route, Mount):
            yield from routes_in(route.routes or (), above + route.path)
        elif isinstance(route, Route) or hasattr(route, "methods"):
            path = re.sub(r":\w+}", "}", above + route.path)
            yield from ((method, path) for method in route.methods - {"HEAD"} if path not in FREE)


def addresses(path: str, ids: Mapping[str, str]) -> list[str]:
    """Each way to fill the path in. A parameter that nobody knows here fails: say what it stands for."""
    names = re.findall(r"{(\w+)}", path)
    if path in OF_PATH:
        return [re.sub(r"{\w+}", quote(ids.get(each, each), safe=""), path) for each in OF_PATH[path]]
    unknown = set(names) - set(PARAMETERS)
    assert not unknown, f"{path}: add {sorted(unknown)} to what this test walks with"
    filled = path
    for name in names:
        filled = filled.replace(f"{{{name}}}", quote(ids[name], safe=""))
    return [filled]


def body(path: str, ids: Mapping[str, str]) -> Any:
    assert path in BODIES, f"{path}: say in BODIES what it is sent"
    return _filled(BODIES[path], ids)


def _filled(found: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(found, Mapping):
        return {name: _filled(value, ids) for name, value in found.items()}
    if isinstance(found, list):
        return [_filled(value, ids) for value in found]
    return ids.get(found, found) if isinstance(found, str) else found


def sent_to(visitor: Visitor, method: str, path: str, address: str, ids: Mapping[str, str]) -> httpx.Response:
    if method == "GET":
        return visitor.http.get(address, follow_redirects=False)
    if path.startswith("/api"):
        return visitor.post(address.removeprefix("/api"), body(path, ids))
    fields = {name: ids[name] for name in FIELDS if name in ids}
    more = {"request": ids["request_id"], "holder": ids["person"], "launch": ids["digest"], "role": "viewer",
            "verdict": "approve", "confirmed": "yes", "reason": "because"}  # fmt: skip
    return visitor.http.post(
        address, data={"csrf": visitor.csrf, **fields, **more, "request_id": ids["request_id"]}, follow_redirects=False
    )


def test_the_words_are_there_for_who_may_see_all(world: TenantWorld, routes: list[tuple[str, str]]) -> None:
    """Otherwise the walk below would prove nothing."""
    oper, found = world.visitor("oper"), set[str]()
    for method, path in routes:
        for address in addresses(path, world.ids) if method == "GET" else ():
            found |= world.found_in(oper.get(address), {})
    queries = {"document": f"/requests/{world.ids['request_id']}/document?id={quote(world.ids['document'])}"}
    found |= world.found_in(oper.get(queries["document"]), {})
    assert found >= set(MARKS.values()) - {MARKS["description"]}


def test_no_address_shows_anything_of_another_tenant(
    world: TenantWorld, anna: Visitor, routes: list[tuple[str, str]]
) -> None:
    seen = set[str]()
    for method, path in routes:
        for ids in (world.ids, world.own):
            for address in addresses(path, ids):
                if path in ("/account/sessions", "/people/{act}") and ids is world.own:
                    continue  # anna would sign herself out, or give her rights away
                answer = sent_to(anna, method, path, address, ids)
                assert answer.status_code < 500, (method, address, answer.text)
                assert not world.found_in(answer, ids if ids is world.ids else {}), (method, address, answer.text)
                seen |= {word for word in OWN.values() if word in answer.text}
    assert seen == set(OWN.values()), "her own she does see"
    with world.desk.stores.state.read() as connection:
        acted = list(audit.select(connection, actor="anna", collections=[MARKS["collection"]]))
    assert acted == []


def test_what_is_another_tenants_looks_like_what_is_not_there(
    world: TenantWorld, anna: Visitor, routes: list[tuple[str, str]]
) -> None:
    for method, path in routes:
        there, nowhere = (addresses(path, ids) for ids in (world.ids, world.made_up))
        for one, other in zip(there, nowhere, strict=True):
            if one != other:
                _same(world, anna, method, path, (one, other))


def _same(world: TenantWorld, anna: Visitor, method: str, path: str, of: tuple[str, str]) -> None:
    both = (world.ids, world.made_up)
    answers = [sent_to(anna, method, path, address, ids) for address, ids in zip(of, both, strict=True)]
    assert answers[0].status_code == answers[1].status_code, (method, of[0], answers[0].text, answers[1].text)
    texts = [world.without(answer, ids) for answer, ids in zip(answers, both, strict=True)]
    assert texts[0] == texts[1], (method, of[0])


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_no_parameter_tells_of_another_tenant(
    world: TenantWorld, anna: Visitor, routes: list[tuple[str, str]], data: st.DataObject
) -> None:
    """One's own address, with identifiers of the other in any of its parameters."""
    pages = sorted(path for method, path in routes if method == "GET")
    path = data.draw(st.sampled_from(pages))
    address = data.draw(st.sampled_from(addresses(path, world.own)))
    names = data.draw(st.lists(st.sampled_from(QUERIES), min_size=1, max_size=3, unique=True))
    what = {name: data.draw(st.sampled_from(sorted(world.ids))) for name in names}
    anna.get(address)  # that somebody looked is recorded once, and shown
    answers = [
        anna.http.get(address, params={name: ids[each] for name, each in what.items()}, follow_redirects=False)
        for ids in (world.ids, world.made_up)
    ]
    assert not world.found_in(answers[0], world.ids), answers[0].text
    assert answers[0].status_code == answers[1].status_code < 500
    assert world.without(answers[0], world.ids) == world.without(answers[1], world.made_up)


def test_a_scraper_of_a_tenant_reads_nothing_of_another(world: TenantWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORTH_TOKEN", "north-scrapes-with-this")
    monkeypatch.setenv("AI_ASSETS_METRICS_TOKEN", "all-of-it-with-this-one")
    metrics = MetricsSettings(tenants={"north": "NORTH_TOKEN"})
    with served(replace(world.desk, settings=world.desk.settings.model_copy(update={"metrics": metrics}))) as desk:
        told = {
            token: httpx.get(f"{desk.url}/metrics", headers={"Authorization": f"Bearer {token}"}, **PLAIN)
            for token in ("north-scrapes-with-this", "all-of-it-with-this-one")
        }
    north, everything = told.values()
    assert (north.status_code, everything.status_code) == (200, 200)
    assert world.found_in(everything, {}) >= {MARKS["collection"], MARKS["tenant"]}
    assert not world.found_in(everything, {}) & {MARKS["document"], MARKS["person"], MARKS["prompt"], MARKS["run"]}
    assert not world.found_in(north, {})
    assert OWN["collection"] in north.text
    cost = f'published_document_cost_dollars{{collection="{OWN["collection"]}",tenant="north"}}'
    assert cost in north.text, "of the warehouse, too"
    assert "ai_assets_endpoint" not in north.text, "what all share tells of the others"


def test_own_things_take_no_identifiers_of_the_other(world: TenantWorld, anna: Visitor) -> None:
    """Each call with one's own address, and a body that names what is the other's."""
    for path, sent in BODIES.items():
        (address,) = addresses(path, world.own)
        for name in sorted(set(_names(sent))):
            told = []
            for ids in (world.ids, world.made_up):
                mixed = {**world.own, name: ids[name]}
                answer = anna.post(address.removeprefix("/api"), body(path, mixed))
                assert not world.found_in(answer, ids), (path, name, answer.text)
                told.append((answer.status_code, world.without(answer, ids)))
            assert told[0] == told[1], (path, name)


def _names(sent: Any) -> Iterator[str]:
    values = sent.values() if isinstance(sent, Mapping) else sent if isinstance(sent, list) else ()
    for value in values:
        if isinstance(value, str) and value in ("collection", "document", "digest", "request_id", "person", "stage"):
            yield value
        yield from _names(value)


@pytest.mark.parametrize("what", ["person", "made up", "group"])
def test_an_administrator_of_a_tenant_gives_roles_to_whom_they_see(
    world: TenantWorld, anna: Visitor, what: str
) -> None:
    holder = {"person": MARKS["person"], "made up": MARKS["person"][::-1], "group": f"group:{MARKS['group']}"}[what]
    answer = anna.submit("/people/give", holder=holder, role="viewer", collection=OWN["collection"])
    assert answer.status_code == 400
    assert "Nobody is known here as" in answer.text
    assert not world.found_in(answer, {"holder": holder})


def test_an_administrator_of_a_tenant_administers_it_and_nothing_else(world: TenantWorld, anna: Visitor) -> None:
    given = anna.submit("/people/give", holder="nils", role="approver", collection="tenant:north")
    assert given.status_code == 200, given.text
    for place in ("*", f"tenant:{MARKS['tenant']}", MARKS["collection"]):
        refused = anna.submit("/people/give", holder="nils", role="viewer", collection=place)
        assert refused.status_code in (403, 404), place
    nils = world.visitor("nils")
    assert nils.get(f"/runs/{OWN['collection']}").status_code == 200
    assert nils.get(f"/runs/{MARKS['collection']}").status_code == 404
    assert anna.submit("/people/add", holder="new", email="").status_code == 403


RIGHTS: Mapping[str, tuple[str, ...]] = {
    "signoff approve": ("{collection}", "{partition}"),
    "signoff reject": ("{collection}", "{partition}", "--reason", "no"),
    "signoff send-back": ("{collection}", "{partition}", "--reason", "no"),
    "signoff ask-again": ("{collection}", "{partition}", "--reason", "no"),
    "releases rollback": ("{collection}", "--to", "1", "--reason", "no"),
    "run": ("{collection}",),
    "backfill": ("{collection}", "--yes"),
    "forget": ("{collection}", "{document}", "--reason", "no"),
    "retention hold": ("{collection}", "--reason", "no"),
    "retention release-hold": ("{collection}", "--reason", "no"),
    "corrections import": ("{collection}", "/dev/null"),
    "golden retire": ("{collection}", "{document}", "--reason", "no"),
    "golden draw": ("{collection}",),
    "golden import": ("{collection}", "/dev/null"),
    "budget set": ("tenant-north", "--limit-usd", "9", "--reason", "more"),
    "canary accept": ("mini", "--reason", "no"),
    "audit accept-restored": ("--reason", "no"),
}  # fmt: skip
OTHERWISE = {
    "cost": "by which column it is grouped", "ledger reconcile": "by which column it is grouped",
    "policy try": "in whose name rules are tried; nothing is done", "reviewers key add": "a key of one's own",
    "ledger resolve": "tests/test_ledger_cli.py", "batches cancel": "tests/test_batch_cli.py",
    "batches give-up": "tests/test_batch_cli.py",
    "shadow start": "asks as `run` does, for a stage that this collection lacks", "judge import": "as golden import",
    "targets rebuild": "tests/test_targets.py", "held decide": "tests/test_holds.py",
}  # fmt: skip
"""Commands whose `--by` is no right of a person, or is held elsewhere."""


def test_every_command_that_somebody_gives_a_name_to_is_walked() -> None:
    named = {name for name, takes_by in commands_with_by(LoadedCommands()) if takes_by}
    assert named == RIGHTS.keys() | OTHERWISE.keys()
    assert not RIGHTS.keys() & OTHERWISE.keys()


def commands_with_by(found: Mapping[str, Any], *above: str) -> Iterator[tuple[str, bool]]:
    for name, command in found.items():
        if hasattr(command, "commands"):
            yield from commands_with_by(command.commands, *above, name)
        else:
            yield " ".join((*above, name)), any("--by" in each.opts for each in command.params)


@pytest.mark.parametrize("command", RIGHTS)
def test_no_command_takes_a_right_of_another_tenant(world: TenantWorld, command: str) -> None:
    from signing import PASSWORD

    filled = [*command.split(), *(part.format(**world.ids, partition=OPEN) for part in RIGHTS[command]), "--by", "anna"]
    done = world.project.cli(*filled, AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 2, done.stdout
    assert "anna" in done.stderr, done.stderr
    assert re.search(r"\brole\b", done.stderr), done.stderr


def test_a_token_starts_nothing_of_another_tenant(world: TenantWorld) -> None:
    from ai_assets.signoff import launch_tokens

    with world.desk.stores.state.write() as connection:
        text, _ = launch_tokens.make(connection, "anna", days=1, by="test")
    done = world.project.cli("run", MARKS["collection"], AI_ASSETS_TOKEN=text)
    assert (done.returncode, "takes the role reviewer there" in done.stderr) == (2, True), done.stderr


def test_the_chain_verifies_decisions_by_a_role_in_a_tenant(world: TenantWorld) -> None:
    done = world.project.cli("audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
