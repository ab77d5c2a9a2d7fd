"""Claims about the desk's page of people, over real HTTP: who sees whom, what an admin can do, and what nobody can."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Project
from desk_stories import Story, story
from desks import Visitor, desk
from signing import known

from ai_assets.signoff import audit, passwords, people, verification
from ai_assets.signoff.audit import Record
from ai_assets.signoff.people import EVERYWHERE, Person


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, as_told: Project) -> Iterator[Story]:
    """With ada, admin of everything; nora, admin of `notes`; and lea, reviewer of `strict` by the group legal."""
    with story(tmp_path_factory.mktemp("people"), as_told) as found:
        known(found.stores.state, "ada", "admin")
        known(found.stores.state, "nora", "admin", "notes")
        known(found.stores.state, "lea", None)
        with found.stores.state.write() as connection:
            people.join(connection, "lea", "legal", by="test")
            people.give(connection, "group:legal", "reviewer", "strict", by="test")
        yield found


@pytest.fixture(scope="module")
def ada(told: Story) -> Visitor:
    return told.running.visitor("ada")


@pytest.fixture(scope="module")
def nora(told: Story) -> Visitor:
    return told.running.visitor("nora")


@pytest.fixture(autouse=True)
def _whole_afterwards(told: Story) -> Iterator[None]:
    yield
    verification.verify(told.stores.state)


def chain(told: Story) -> list[Record]:
    with told.stores.state.read() as connection:
        return list(audit.records(connection))


def last(told: Story) -> tuple[str, str, dict[str, object]]:
    found = chain(told)[-1]
    return found.actor, found.action, dict(found.subject)


def person(told: Story, name: str) -> Person | None:
    with told.stores.state.read() as connection:
        return people.find(connection, name)


def roles(told: Story, name: str) -> dict[str, str]:
    found = person(told, name)
    assert found is not None
    return dict(found.roles)


def said(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def listed(answer: httpx.Response) -> set[str]:
    return set(re.findall(r'data-open href="/people/([^"]+)"', answer.text))


def refused(told: Story, answer: httpx.Response, status: int, sentence: str) -> None:
    assert answer.status_code == status, said(answer)
    assert sentence in said(answer)
    assert "Nothing was changed" in said(answer) or status == 404


# Who sees whom


def test_an_admin_of_everything_sees_everybody(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "gus", "viewer", "strict")
    told.running.visitor("gus")
    ada.submit("/people/disable", holder="gus")
    told.running.visitor("vic")
    page = ada.get("/people")
    assert listed(page) >= {"ada", "nora", "lea", "ann", "bob", "rita", "vic", "nob", "gus"}
    for text in ("admin in notes", "reviewer in strict, by group legal", "disabled", "ai-assets reviewers add NAME"):
        assert text in said(page)
    vic, lea = said(ada.get("/people/vic")), said(ada.get("/people/lea"))
    assert re.search(r"By password Open sessions 1 , last seen", vic)
    assert "Open sessions none" in lea
    assert listed(ada.get("/people?text=legal")) == {"lea"}


def test_an_admin_of_one_collection_sees_who_has_a_role_in_it(told: Story, nora: Visitor) -> None:
    known(told.stores.state, "stan", "viewer", "strict")
    page = nora.get("/people")
    assert listed(page) >= {"nora", "ann", "bob", "rita", "vic", "ada"}
    assert not {"stan", "lea", "nob"} & listed(page)
    assert "legal" not in page.text
    assert "strict" not in page.text
    assert "Sessions" not in page.text
    assert nora.get("/people/stan").status_code == nora.get("/people/nobody-at-all").status_code == 404
    assert nora.get("/people/rita").status_code == 200
    with told.stores.state.write() as connection:
        people.give(connection, "group:legal", "viewer", "notes", by="test")
    page = nora.get("/people")
    assert "lea" in listed(page)
    assert "viewer in notes, by group legal" in said(page)
    assert "strict" not in page.text
    with told.stores.state.write() as connection:
        people.take(connection, "group:legal", "notes", by="test")


@pytest.mark.parametrize("name", ["ann", "rita", "vic", "nob"])
def test_for_everybody_else_there_is_no_such_page(told: Story, name: str) -> None:
    visitor, before = told.running.visitor(name), len(chain(told))
    nothing = visitor.get("/nowhere")
    for answer in (
        visitor.get("/people"),
        visitor.get("/people/ada"),
        visitor.submit("/people/give", holder=name, role="admin", collection="*"),
        visitor.submit("/people/take", holder="ada", collection="*"),
        visitor.submit("/people/disable", holder="ada"),
        visitor.submit("/people/nothing-like-it"),
    ):
        assert (answer.status_code, said(answer)) == (404, said(nothing))
    assert 'href="/people"' not in visitor.get("/").text
    assert len(chain(told)) == before


def test_the_navigation_names_the_page_to_admins(ada: Visitor, nora: Visitor) -> None:
    assert 'href="/people"' in ada.get("/").text
    assert 'href="/people"' in nora.get("/").text


# What can be done, and its record


def test_a_role_is_given_changed_and_taken_and_holds_at_once(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "kim", None)
    kim = told.running.visitor("kim")
    assert kim.get("/releases/notes").status_code == 404
    answer = ada.submit("/people/give", holder=" Kim ", role="viewer", collection="notes")
    assert "The role is given" in answer.text
    assert last(told) == ("ada", "role given", {"person": "kim", "role": "viewer", "in": "notes"})
    assert kim.get("/releases/notes").status_code == 200
    ada.submit("/people/give", holder="kim", role="approver", collection="*")
    assert roles(told, "kim") == {"notes": "viewer", "*": "approver"}
    for place in ("notes", "*"):
        answer = ada.submit("/people/take", **{"from": "person", "holder": "kim", "collection": place})
        assert str(answer.url).endswith("/people/kim?done=take")
        assert last(told) == ("ada", "role taken", {"person": "kim", "in": place})
    assert kim.get("/releases/notes").status_code == 404
    refused(told, ada.submit("/people/take", holder="kim", collection="notes"), 400, "'kim' had no role of their own")


def test_a_group_is_given_a_role_and_filled(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "max", None)
    ada.submit("/people/give", holder="group:the north", role="approver", collection="strict")
    assert last(told) == ("ada", "role given", {"person": "group:the north", "role": "approver", "in": "strict"})
    ada.submit("/people/join", **{"from": "person", "holder": "max", "group": "the north"})
    assert last(told) == ("ada", "group joined", {"person": "max", "group": "the north"})
    assert roles(told, "max") == {"strict": "approver"}
    refused(told, ada.submit("/people/join", holder="max", group="group:the north"), 400, "already")
    page = ada.submit("/people/leave", **{"from": "person", "holder": "max", "group": "the north"})
    assert "They are out of the group now" in page.text
    assert last(told) == ("ada", "group left", {"person": "max", "group": "the north"})
    assert roles(told, "max") == {}
    refused(told, ada.submit("/people/leave", holder="max", group="the north"), 400, "was not put into")
    ada.submit("/people/take", holder="group:the north", collection="strict")
    assert last(told)[1] == "role taken"


def test_who_is_disabled_is_out_until_enabled(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "dora", "viewer")
    dora = told.running.visitor("dora")
    ada.submit("/people/disable", holder="dora")
    assert last(told) == ("ada", "person disabled", {"person": "dora"})
    assert dora.get("/api/me").status_code == 401
    assert dora.sign_in("dora").status_code == 403
    refused(told, ada.submit("/people/disable", holder="dora"), 400, "'dora' is disabled")
    refused(told, ada.submit("/people/give", holder="dora", role="viewer", collection="*"), 400, "'dora' is disabled")
    ada.submit("/people/enable", holder="dora")
    assert last(told) == ("ada", "person added", {"person": "dora", "password_digest": None})
    refused(told, ada.submit("/people/enable", holder="dora"), 400, "not disabled")
    assert dora.sign_in("dora").status_code == 200
    assert roles(told, "dora") == {"*": "viewer"}


def test_somebodys_sessions_are_ended(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "otto", "viewer")
    first, second = told.running.visitor("otto"), told.running.visitor("otto")
    assert re.search(r"Open sessions 2 ,", said(ada.get("/people/otto")))
    ada.submit("/people/end-sessions", holder="otto")
    assert last(told) == ("ada", "session ended", {"person": "otto", "sessions": 2})
    assert [visitor.get("/api/me").status_code for visitor in (first, second)] == [401, 401]
    refused(told, ada.submit("/people/end-sessions", holder="otto"), 400, "no open session")


def test_somebody_without_a_password_is_added_where_there_is_a_way_in_for_them(told: Story, ada: Visitor) -> None:
    assert "/people/add" not in ada.get("/people").text
    refused(told, ada.submit("/people/add", holder="pia"), 400, "neither a proxy nor a provider")
    declared = Path(told.project.root / "desk.yaml")
    declared.write_text("sign_in: {proxy: {header: X-User, addresses: [10.1.2.3]}}\n", encoding="utf-8")
    try:
        with desk(told.project) as other:
            admin = other.visitor("ada")
            page = admin.get("/people").text
            assert "/people/add" in page
            assert "ai-assets reviewers add NAME" in page
            assert "They are known now" in admin.submit("/people/add", holder="Pia", email="pia@example.org").text
            assert last(told) == ("ada", "person added", {"person": "pia", "password_digest": None})
            pia = said(admin.get("/people/pia"))
            assert "pia@example.org" in pia
            assert "By proxy" in pia
            refused(told, admin.submit("/people/add", holder="pia"), 400, "known already")
            wrong = admin.submit("/people/add", holder="pit", email="no address")
            assert (wrong.status_code, "is no e-mail address" in said(wrong)) == (400, True)
            assert 'value="pit"' in wrong.text
            assert person(told, "pit") is None
            assert other.visitor("nora").submit("/people/add", holder="pit").status_code == 403
    finally:
        declared.unlink()


@pytest.mark.parametrize(
    ("act", "fields", "sentence"),
    [
        ("give", {"holder": "nobody-here", "role": "viewer", "collection": "notes"}, "Nobody is known here as"),
        ("give", {"holder": "ann", "role": "emperor", "collection": "notes"}, "is no role"),
        ("give", {"holder": "ann smith", "role": "viewer", "collection": "notes"}, "cannot be a person's name"),
        ("give", {"holder": "group: ", "role": "viewer", "collection": "notes"}, "cannot be a group's name"),
        ("join", {"holder": "ann", "group": "one,two"}, "cannot be a group's name"),
        ("disable", {"holder": ""}, "cannot be a person's name"),
        ("disable", {"holder": "nobody-here"}, "Nobody is known here as"),
        ("end-sessions", {"holder": "nobody-here"}, "Nobody is known here as"),
        ("take", {"holder": "x" * 5000, "collection": "notes"}, "cannot be a person's name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    told: Story, ada: Visitor, act: str, fields: dict[str, str], sentence: str
) -> None:
    before = len(chain(told))
    answer = ada.submit(f"/people/{act}", **fields)
    assert answer.status_code == 400
    assert sentence in said(answer)
    assert len(answer.text) < 100_000
    assert len(chain(told)) == before


def test_hostile_names_stay_text(told: Story, ada: Visitor) -> None:
    group = "<b>\"x' & {{ 7 * 7 }}/.."
    ada.submit("/people/join", holder="nob", group=group)
    for page in (ada.get("/people"), ada.get("/people/nob")):
        assert "<b>" not in page.text
        assert group in html.unescape(page.text)
    ada.submit("/people/leave", holder="nob", group=group)
    assert last(told) == ("ada", "group left", {"person": "nob", "group": group})


def test_a_form_without_the_token_changes_nothing(told: Story, ada: Visitor) -> None:
    before = len(chain(told))
    answer = ada.http.post("/people/disable", data={"holder": "bob"})
    assert answer.status_code == 403
    assert len(chain(told)) == before


# What nobody can


def test_nobody_gives_up_their_own_admin_role_or_shuts_themselves_out(told: Story, ada: Visitor, nora: Visitor) -> None:
    before = len(chain(told))
    refused(told, ada.submit("/people/disable", holder="ADA"), 403, "You would shut yourself out")
    everything = "You would lose your own role as admin in all collections"
    refused(told, ada.submit("/people/take", holder="ada", collection="*"), 403, everything)
    for role in ("viewer", "approver"):
        refused(told, ada.submit("/people/give", holder="ada", role=role, collection="*"), 403, everything)
    notes = "You would lose your own role as admin in notes"
    refused(told, nora.submit("/people/take", holder="nora", collection="notes"), 403, notes)
    refused(told, nora.submit("/people/give", holder="nora", role="reviewer", collection="notes"), 403, notes)
    assert len(chain(told)) == before
    assert (roles(told, "ada"), roles(told, "nora")) == ({"*": "admin"}, {"notes": "admin"})
    ada.submit("/people/give", holder="ada", role="admin", collection="*")
    assert last(told)[1] == "role given"


def test_nor_by_way_of_the_group_they_have_it_from(told: Story) -> None:
    known(told.stores.state, "gil", None)
    with told.stores.state.write() as connection:
        people.join(connection, "gil", "chiefs", by="test")
        people.give(connection, "group:chiefs", "admin", EVERYWHERE, by="test")
    gil, before = told.running.visitor("gil"), len(chain(told))
    sentence = "You would lose your own role as admin in all collections"
    refused(told, gil.submit("/people/leave", holder="gil", group="chiefs"), 403, sentence)
    refused(told, gil.submit("/people/take", holder="group:chiefs", collection="*"), 403, sentence)
    refused(told, gil.submit("/people/give", holder="group:chiefs", role="viewer", collection="*"), 403, sentence)
    assert len(chain(told)) == before
    gil.submit("/people/give", holder="gil", role="admin", collection="*")
    gil.submit("/people/leave", holder="gil", group="chiefs")
    assert roles(told, "gil") == {"*": "admin"}
    gil.submit("/people/take", holder="group:chiefs", collection="*")
    assert last(told) == ("gil", "role taken", {"person": "group:chiefs", "in": "*"})


def test_an_admin_of_one_collection_gives_and_takes_there_only(told: Story, nora: Visitor) -> None:
    known(told.stores.state, "ned", None)
    known(told.stores.state, "sue", "viewer", "strict")
    nora.submit("/people/give", holder="ned", role="approver", collection="notes")
    assert last(told) == ("nora", "role given", {"person": "ned", "role": "approver", "in": "notes"})
    answer = nora.submit("/people/take", **{"from": "person", "holder": "ned", "collection": "notes"})
    assert str(answer.url).endswith("/people?done=take")  # they are not for nora to see any more
    assert last(told) == ("nora", "role taken", {"person": "ned", "in": "notes"})
    before = len(chain(told))
    there = nora.submit("/people/give", holder="ned", role="viewer", collection="strict")
    nowhere = nora.submit("/people/give", holder="ned", role="viewer", collection="nowhere")
    assert (there.status_code, nowhere.status_code) == (404, 404)
    assert said(there).replace("strict", "nowhere") == said(nowhere)
    assert nora.submit("/people/take", holder="sue", collection="strict").status_code == 404
    for act, fields in {
        "give": {"role": "viewer", "collection": "*"},
        "take": {"collection": "*"},
        "join": {"group": "legal"},
        "leave": {"group": "legal"},
        "add": {},
        "disable": {},
        "enable": {},
        "end-sessions": {},
    }.items():
        answers = [nora.submit(f"/people/{act}", holder=name, **fields) for name in ("sue", "nobody-here")]
        assert [answer.status_code for answer in answers] == [403, 403], act
        assert "Only an admin of every collection can" in said(answers[0])
    hidden = nora.submit("/people/give", holder="nobody-here", role="viewer", collection="notes")
    refused(told, hidden, 400, "Nobody is known here as 'nobody-here'")
    assert "sue" not in hidden.text
    assert len(chain(told)) == before
    assert roles(told, "sue") == {"strict": "viewer"}


def test_who_is_admin_no_more_can_do_nothing_in_a_session_that_is_open(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "eve", "admin")
    eve = told.running.visitor("eve")
    assert eve.get("/people").status_code == 200
    ada.submit("/people/give", holder="eve", role="approver", collection="*")
    before = len(chain(told))
    assert eve.submit("/people/take", holder="ada", collection="*").status_code == 404
    assert eve.get("/people").status_code == 404
    assert len(chain(told)) == before


def test_another_password_is_in_the_chain_as_that_and_enables_nobody(told: Story, ada: Visitor) -> None:
    known(told.stores.state, "pat", "viewer")
    ada.submit("/people/disable", holder="pat")
    with told.stores.state.write() as connection:
        passwords.change(connection, "pat", passwords.hashed("another walk in the rain"), by="test")
    actor, action, subject = last(told)
    assert (actor, action, subject["person"]) == ("test", "password set", "pat")
    assert person(told, "pat") is None
    page = said(ada.get("/audit?action=password%20set"))
    assert "password set pat" in page
