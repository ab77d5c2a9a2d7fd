"""Claims about contracts, ratings and provenance in a home of two tenants, who have the same documents and the same
prompts: to a person of one, a release of the other looks like one that is not there."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import httpx
import pytest
import yaml
from backups import in_postgresql
from conftest import DAYS, STAGE, project_at
from desks import VisitedDesk, desk_of, served
from provider import Provider
from signing import current, decide, known
from starlette.testclient import TestClient
from test_judge import INFERENCE

from ai_assets.inference import history
from ai_assets.search_server.app import create_search
from ai_assets.signoff import given_ratings, launch_tokens
from ai_assets.signoff.publication import publish
from ai_assets.signoff.rating_files import sheet

DAY = "2026-10-05"
NORTH, SOUTH, NOWHERE = "alderwood", "zebrawood", "ebonywood"
"""Collections of the two tenants, and one that is not there."""
SHARED = f"{DAY}/shared.txt"
OF_SOUTH = f"{DAY}/quokka.txt"
PAYS = {"budget": {"limit_usd": 5, "per": "month"}}
PROMISED = {"version": 1, "columns": {"kind_label": {"type": "string", "required": True}}}
STAGES = [
    {**STAGE, "route": "default"},
    {"name": "brief", "kind": "summarise", "max_sentences": 1},
    {"name": "rated", "kind": "judge", "of": "brief", "route": "judge"},
]


@dataclass(frozen=True, kw_only=True)
class Neighbours(VisitedDesk):
    search: TestClient
    calls: Mapping[str, str]
    """By collection, a call about the document that both have."""
    outputs: Mapping[str, str]
    requests: Mapping[str, str]

    def asked(self, name: str, path: str) -> httpx.Response:
        """Of the search server."""
        with self.desk.stores.state.write() as connection:
            token = launch_tokens.make(connection, name, days=1, by="test", reads=True)[0]
        return self.search.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        project = project_at(tmp_path_factory.mktemp("neighbours"), patch)
        if request.param == "postgresql":
            project = in_postgresql(project, request.getfixturevalue("postgres"), patch)
        (project.root / "inference.yaml").write_text(INFERENCE)
        (project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": {"north": PAYS, "south": PAYS}}))
        state = project.stores().state
        for name, tenant in (("anna", "north"), ("sula", "south")):
            known(state, name, "admin", f"tenant:{tenant}")
        rita = known(state, "rita", "reviewer")
        outputs, asked = {}, {}
        for name, tenant in ((NORTH, "north"), (SOUTH, "south")):
            project.document(SHARED, "The pump in hall three leaks oil, and the valve was shut.", name)
            if tenant == "south":
                project.document(OF_SOUTH, "A quokka was seen beside the pump in hall three.", name)
            collection = project.declare(
                name, partitions={**DAYS, "end": DAY}, stages=STAGES, contract=PROMISED, tenant=tenant
            )
            project.refresh(collection)
            stores, judge = project.stores(), collection.judges[0]
            for line in sheet(stores, collection, judge, 2):
                given_ratings.rate(stores, collection, judge, line["document"], line["output"], "4", by=rita)
                outputs[name] = line["output"]
            decide(state, collection)
            asked[name] = current(state, DAY, name).request_id
            publish(collection, stores, by="test")
        with state.read() as connection:
            every = history.attempts(connection, asset="kind", document=SHARED)
        calls = {attempt.collection: attempt.call for attempt in every}
        with served(desk_of(project)) as desk, TestClient(create_search(desk)) as search, ExitStack() as closing:
            yield Neighbours(
                desk=desk, search=search, calls=calls, outputs=outputs, requests=asked, closing=closing
            )  # fmt: skip


def of_desk(name: str, document: str, call: str) -> list[str]:
    """Where the desk shows contracts, ratings and provenance of a collection."""
    row, release = urlencode({"id": document}), f"/releases/{name}/1"
    return [
        f"/explain/{name}?{row}", f"/explain/{name}/provenance.json?{row}", f"/explain/{name}/statement.json?{row}",
        f"/touched/{name}?by=prompt&value=1", f"/touched/{name}?by=model&value=mini",
        f"/touched/{name}?{urlencode({'by': 'call', 'value': call})}", f"/golden/{name}/ratings/rated",
        f"/api/golden/{name}/ratings/rated", release, f"{release}/card", f"{release}/card.md", f"{release}/card.json",
        f"/api/releases/{name}",
    ]  # fmt: skip


def of_search(name: str, document: str) -> list[str]:
    return [
        f"/v1/{name}/search?q=pump&k=3", f"/v1/{name}/search?q=pump&label=kind:invoice",
        f"/v1/{name}/documents/{quote(document)}", f"/v1/{name}/explain/{quote(document)}",
        f"/v1/{name}/explain/{quote(document)}?release=1",
    ]  # fmt: skip


def without(answer: httpx.Response, name: str) -> str:
    return answer.text.replace(name, "<name>")


def test_another_tenants_release_looks_like_one_that_is_not_there(world: Neighbours) -> None:
    anna, sula = world.visitor("anna"), world.visitor("sula")
    for there, nowhere in zip(
        of_desk(SOUTH, OF_SOUTH, world.calls[SOUTH]), of_desk(NOWHERE, OF_SOUTH, world.calls[SOUTH]), strict=True
    ):
        assert sula.get(there).status_code == 200, there
        answers = anna.get(there), anna.get(nowhere)
        assert [each.status_code for each in answers] == [404, 404], there
        assert without(answers[0], SOUTH) == without(answers[1], NOWHERE), there
    for there, nowhere in zip(of_search(SOUTH, OF_SOUTH), of_search(NOWHERE, OF_SOUTH), strict=True):
        assert world.asked("sula", there).status_code == 200, there
        answers = world.asked("anna", there), world.asked("anna", nowhere)
        assert [each.status_code for each in answers] == [404, 404], there
        assert without(answers[0], SOUTH) == without(answers[1], NOWHERE), there
    assert [each["name"] for each in world.asked("anna", "/v1/collections").json()] == [NORTH]


def test_nothing_of_another_tenant_is_rated(world: Neighbours) -> None:
    anna = world.visitor("anna")
    rated = {"document_id": SHARED, "output": world.outputs[SOUTH]}
    for call, body in (("rate", {**rated, "rating": "1"}), ("withdraw", rated)):
        answers = [anna.post(f"/golden/{name}/ratings/rated/{call}", body) for name in (SOUTH, NOWHERE)]
        assert [each.status_code for each in answers] == [404, 404]
        assert without(answers[0], SOUTH) == without(answers[1], NOWHERE)
    with world.desk.stores.state.read() as connection:
        assert [(each.said, each.author) for each in given_ratings.in_force(connection, SOUTH)] == [(4, "rita")] * 2


def test_ones_own_pages_say_nothing_of_the_neighbour_with_the_same_documents_and_prompts(world: Neighbours) -> None:
    """Each tenant paid for its own answer to the same question."""
    anna, mine, theirs = world.visitor("anna"), world.calls[NORTH], world.calls[SOUTH]
    assert mine != theirs
    told = [anna.get(each) for each in of_desk(NORTH, SHARED, mine)]
    told += [world.asked("anna", each) for each in of_search(NORTH, SHARED)]
    for answer in told:
        assert answer.status_code == 200, answer.url
        for word in (SOUTH, "quokka", "sula", "south", theirs, world.requests[SOUTH]):
            assert word not in answer.text, (answer.url, word)
    provenance = anna.get(f"/explain/{NORTH}/provenance.json?{urlencode({'id': SHARED})}").json()
    assert mine in str(provenance)
    touched = anna.get(f"/touched/{NORTH}?by=model&value=mini").text
    assert "shared.txt" in touched


def test_a_call_of_another_tenant_looks_like_one_that_was_never_made(world: Neighbours) -> None:
    anna, theirs = world.visitor("anna"), world.calls[SOUTH]
    never = theirs[:-1] + ("0" if theirs[-1] != "0" else "1")
    for address in (f"/touched/{NORTH}?by=call&value={{}}", "/calls/{}", "/api/calls/{}"):
        answers = [anna.get(address.format(call)) for call in (theirs, never)]
        assert answers[0].status_code == answers[1].status_code, address
        assert answers[0].text.replace(theirs, "<call>") == answers[1].text.replace(never, "<call>"), address
