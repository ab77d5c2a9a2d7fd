"""Claims about coming in and going out: over real HTTP, against a running desk."""

import datetime
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from conftest import Project
from desks import sign_in, token_in
from guarded import Guarded, opened
from hypothesis import given
from hypothesis import strategies as st
from signing import PASSWORD, known

from ai_assets.base.home import Home, HomeUnusable
from ai_assets.desk.address import local_path
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import people

if TYPE_CHECKING:
    from conftest import Postgres


@pytest.fixture
def desk(project: Project) -> Iterator[Guarded]:
    with opened(project) as found:
        known(found.stores.state)
        yield found


def on(project: Project, url: str) -> Project:
    """The project with its state in that database."""
    return replace(project, home=replace(project.home, declared_state_url=url))


def person_at(browser: httpx.Client) -> str | None:
    answer = browser.get("/")
    return answer.json()["person"] if answer.status_code == 200 else None


# Coming in


def test_who_is_not_signed_in_is_led_to_the_form_and_back(desk: Guarded) -> None:
    with desk.browser() as browser:
        turned_away = browser.get("/requests/7?page=2&sort=risk")
        assert turned_away.status_code == 303
        assert turned_away.headers["location"] == "/sign-in?next=/requests/7%3Fpage%3D2%26sort%3Drisk"
        form = browser.get(turned_away.headers["location"])
        assert 'name="next" value="/requests/7?page=2&amp;sort=risk"' in form.text
        came_in = sign_in(browser, to="/requests/7?page=2&sort=risk")
        assert (came_in.status_code, came_in.headers["location"]) == (303, "/requests/7?page=2&sort=risk")
        assert browser.get("/requests/7").json()["person"] == "ann"
        assert browser.get("/sign-in", params={"next": "/audit"}).headers["location"] == "/audit"
    assert desk.log == ["GET /requests/7"]


def test_a_program_is_told_to_sign_in(desk: Guarded) -> None:
    with desk.browser() as browser:
        answer = browser.get("/api/requests")
        assert (answer.status_code, answer.json()) == (401, {"error": "Sign in first (/sign-in)."})
        assert answer.headers["www-authenticate"].startswith("Cookie")
        assert browser.get("/api/openapi.json").status_code == 200
        assert browser.post("/requests").headers["location"] == "/sign-in"
    assert desk.log == []


def test_the_form_says_the_same_whatever_was_wrong(desk: Guarded) -> None:
    known(desk.stores.state, "bob")
    with desk.stores.state.write() as connection:
        people.disable(connection, "bob", by="test")
        people.add(connection, "cem", email=None, password_hash=None, by="oidc")
    pages = set()
    with desk.browser() as browser:
        for name, password in [("ann", "wrong"), ("bob", PASSWORD), ("cem", PASSWORD), ("dan", PASSWORD)]:
            answer = sign_in(browser, name, password)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            pages.add((answer.text.replace(f'value="{name}"', "value=NAME"), answer.headers["content-length"]))
    assert len(pages) == 1
    assert "do not belong to anybody who may sign in" in pages.pop()[0]


@pytest.mark.slow
def test_too_many_failures_are_told_how_long_to_wait(desk: Guarded) -> None:
    with desk.browser() as browser:
        for _ in range(5):
            assert sign_in(browser, password="wrong").status_code == 403
        answer = sign_in(browser)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert re.search(r"Too many sign-ins failed. Wait \d+ seconds, then try again", answer.text)
        assert person_at(browser) is None


def test_a_name_is_shown_again_but_never_as_markup(desk: Guarded) -> None:
    with desk.browser() as browser:
        answer = sign_in(browser, '"><script>alert(1)</script>', "wrong")
    assert "<script>alert" not in answer.text
    assert "wrong" not in answer.text


def test_passwords_can_be_turned_off(project: Project) -> None:
    with (
        opened(project, sign_in={"local": False, "proxy": {"addresses": ["10.0.0.0/8"]}}) as desk,
        desk.browser() as browser,
    ):
        known(desk.stores.state)
        form = browser.get("/sign-in")
        assert 'type="password"' not in form.text
        assert "proxy in front" in form.text
        visit = browser.cookies["desk-visit"]
        token = Seal.of(project.home).token("csrf", visit, "")
        answer = browser.post("/sign-in", data={"name": "ann", "password": PASSWORD, "csrf": token})
        assert answer.status_code == 403
        assert "keeps no passwords" in answer.text


# Cookies


def test_on_http_the_cookie_is_kept_from_scripts_and_other_sites(desk: Guarded) -> None:
    with desk.browser() as browser:
        (cookie, dropped) = sign_in(browser).headers.get_list("set-cookie")
    assert re.fullmatch(r"desk=[\w-]{43}; HttpOnly; Path=/; SameSite=lax", cookie)
    assert dropped.startswith('desk-visit=""; expires=')


def test_on_https_the_cookie_is_held_to_the_host(project: Project) -> None:
    with opened(project, url="https://desk.example.org") as desk, desk.browser() as browser:
        known(desk.stores.state)
        host = {"Host": "desk.example.org"}
        form = browser.get("/sign-in", headers=host)
        visit = form.headers["set-cookie"]
        assert re.fullmatch(r"__Host-desk-visit=[\w-]{43}; HttpOnly; Path=/; SameSite=lax; Secure", visit)
        sent = {**host, "Cookie": visit.partition(";")[0], "Origin": "https://desk.example.org"}
        fields = {"name": "ann", "password": PASSWORD, "csrf": token_in(form)}
        (cookie, _) = browser.post("/sign-in", data=fields, headers=sent).headers.get_list("set-cookie")
        assert re.fullmatch(r"__Host-desk=[\w-]{43}; HttpOnly; Path=/; SameSite=lax; Secure", cookie)
        assert form.headers["strict-transport-security"] == "max-age=31536000"
        came_in = browser.get("/", headers={**host, "Cookie": cookie.partition(";")[0]})
        assert came_in.json()["person"] == "ann"
        without_prefix = cookie.partition(";")[0].removeprefix("__Host-")
        assert browser.get("/", headers={**host, "Cookie": without_prefix}).status_code == 303


def test_a_token_that_was_planted_is_never_taken_over(desk: Guarded) -> None:
    with desk.browser() as browser:
        browser.cookies.set("desk", "planted", domain="127.0.0.1", path="/")
        form = browser.get("/sign-in")
        fields = {"name": "ann", "password": PASSWORD, "csrf": token_in(form)}
        came_in = browser.post("/sign-in", data=fields)
        assert came_in.cookies["desk"] != "planted"
        first = came_in.cookies["desk"]
        again = browser.post(
            "/sign-in", data={**fields, "csrf": browser.get("/").json()["csrf"]}, headers={"Cookie": f"desk={first}"}
        )
    assert again.status_code == 303
    second = again.cookies["desk"]
    assert second != first
    with desk.browser(cookies={"desk": first}) as old, desk.browser(cookies={"desk": second}) as new:
        assert (person_at(old), person_at(new)) == (None, "ann")
    with desk.browser(cookies={"desk": "planted"}) as planted:
        assert person_at(planted) is None


# Going out


def test_signing_out_ends_the_session_for_good(desk: Guarded) -> None:
    with desk.browser() as browser:
        sign_in(browser)
        kept = browser.cookies["desk"]
        gone = browser.post("/sign-out", data={"csrf": browser.get("/").json()["csrf"]})
        assert (gone.status_code, gone.headers["location"]) == (303, "/sign-in")
        assert gone.headers["set-cookie"].startswith('desk=""; expires=')
    with desk.browser(cookies={"desk": kept}) as thief:
        assert person_at(thief) is None


def test_rights_and_people_change_at_once(project: Project, store_url: str) -> None:
    with opened(on(project, store_url)) as desk, desk.browser() as browser:
        known(desk.stores.state)
        sign_in(browser)
        assert browser.get("/").json()["roles"] == {"*": "approver"}
        state = desk.stores.state
        with state.write() as connection:
            people.give(connection, "ann", "viewer", "*", by="test")
        assert browser.get("/").json()["roles"] == {"*": "viewer"}
        with state.write() as connection:
            people.disable(connection, "ann", by="test")
        assert person_at(browser) is None
        with state.write() as connection:
            people.add(connection, "ann", email=None, password_hash=None, by="test")
        assert person_at(browser) is None


@pytest.mark.parametrize(("column", "hours"), [("seen_at", -2), ("expires_at", -1), ("created_at", 1)])
def test_a_session_that_ran_out_is_none(desk: Guarded, column: str, hours: float) -> None:
    with desk.browser() as browser:
        sign_in(browser)
        assert person_at(browser) == "ann"
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        with desk.stores.state.write() as connection:
            connection.execute(sa.update(sa.table("sessions", sa.column(column))).values({column: moment.isoformat()}))
        assert person_at(browser) is None


def test_use_keeps_a_session_alive(desk: Guarded) -> None:
    with desk.browser() as browser:
        sign_in(browser)
        moment = datetime.datetime.now(datetime.UTC)
        with desk.stores.state.write() as connection:
            seen = (moment - datetime.timedelta(minutes=59)).isoformat()
            connection.execute(sa.text("UPDATE sessions SET seen_at = :seen"), {"seen": seen})
        assert person_at(browser) == "ann"
        with desk.stores.state.read() as connection:
            seen = connection.execute(sa.text("SELECT seen_at FROM sessions")).scalar_one()
        assert datetime.datetime.fromisoformat(seen) > moment - datetime.timedelta(seconds=1)


# The store


def test_without_its_store_the_desk_says_so_and_comes_back(project: Project, postgres: "Postgres") -> None:
    with opened(on(project, postgres.database("desk_without_store"))) as desk, desk.browser(timeout=300) as browser:
        known(desk.stores.state)
        sign_in(browser)
        postgres.stop()
        try:
            for path in ("/", "/api/requests"):
                answer = browser.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert "cannot reach its state store" in answer.text
                assert "keeper" not in answer.text
            assert browser.get("/health").status_code == 200
        finally:
            postgres.start()
        assert person_at(browser) == "ann"


# Where to go after


@pytest.mark.parametrize(
    "evil",
    [
        "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
        "https:evil.example", "javascript:alert(1)", "/%2fevil.example", "/%2Fevil.example", "/%5cevil.example",
        "/%255cevil.example", "/%252fevil.example", "/\t/evil.example", "/\n/evil.example", "/%09/evil.example",
        " //evil.example", "evil.example", "/\u2028/evil.example", "/ /evil.example", "", "?next=//evil.example",
        "@evil.example", "/" + "a" * 3000,
    ],
)  # fmt: skip
def test_nobody_is_led_elsewhere(evil: str) -> None:
    assert local_path(evil) == "/"


def test_not_even_with_the_right_password(desk: Guarded) -> None:
    with desk.browser() as browser:
        assert 'name="next" value="/"' in browser.get("/sign-in", params={"next": "/\\evil.example"}).text
        assert sign_in(browser, to="//evil.example").headers["location"] == "/"


@pytest.mark.parametrize(
    "path", ["/", "/requests/7?page=2", "/releases/a%20b", "/documents/a%2Fb", "/x//y", "/audit#9"]
)
def test_paths_of_the_desk_are_kept(path: str) -> None:
    assert local_path(path) == path


@given(st.one_of(st.text(), st.from_regex(r"/[/\\%25fFcC09a-]{1,12}evil\.example.*"), st.text("/\\%2fF5cC\t\n :@a")))
def test_whatever_is_asked_for_stays_at_the_desk(text: str) -> None:
    found = local_path(text)
    for _ in range(3):
        target = urlsplit(urljoin("http://desk.example/sign-in", found.replace("\\", "/")))
        assert (target.scheme, target.netloc) == ("http", "desk.example")
        assert not re.search(r"[\x00-\x1f\x7f]", local_path(text))
        found = unquote(found)


# The key


def test_the_key_is_made_once_and_closed_to_others(project: Project) -> None:
    first, second = Seal.of(project.home), Seal.of(project.home)
    key = project.home.root / "desk.key"
    assert (first, key.stat().st_mode & 0o777, len(key.read_bytes())) == (second, 0o600, 32)
    assert [path.name for path in project.home.root.iterdir() if "desk" in path.name] == ["desk.key"]
    assert repr(key.read_bytes()) not in repr(first)


def test_a_damaged_key_is_named(project: Project) -> None:
    (project.home.root / "desk.key").write_bytes(b"short")
    with pytest.raises(HomeUnusable, match=r"desk\.key holds 5 bytes"):
        Seal.of(project.home)


@given(text=st.text(), purpose=st.text(max_size=10))
def test_what_was_not_sealed_is_not_opened(text: str, purpose: str) -> None:
    seal = Seal(b"k" * 32)
    assert seal.opened(purpose, text, 60) is None
    whole = seal.sealed("flow", {"state": text.encode("ascii", "replace").decode()})
    assert seal.opened("flow", whole, 60) is not None
    assert seal.opened("other", whole, 60) is None
    assert seal.opened("flow", "A" + whole, 60) is None
    assert seal.opened("flow", whole, -1) is None


def test_homes_have_keys_of_their_own(project: Project) -> None:
    other: Home = project.elsewhere().home
    assert Seal.of(project.home).token("x") != Seal.of(other).token("x")
