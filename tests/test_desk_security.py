"""Claims about what stands around the desk: headers, limits, names, forged requests, and the proxy in front."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from conftest import Project
from desks import sign_in, token_in
from guarded import Guarded, opened
from hypothesis import given
from hypothesis import strategies as st
from signing import PASSWORD, known
from starlette.types import Scope

from ai_assets.base.home import Home
from ai_assets.desk import proxy
from ai_assets.desk.address import Address
from ai_assets.desk.security import LARGEST_BODY
from ai_assets.desk.settings import ProxySettings
from ai_assets.signoff import audit, people

STRICT = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One for all claims that leave it as it is."""
    root = tmp_path_factory.mktemp("desk")
    home = Home(root=root / "home", project=root).ensure()
    with opened(Project(root=root, home=home)) as found:
        known(found.stores.state)
        known(found.stores.state, "bob")
        yield found


@pytest.fixture(scope="module")
def signed_in(running: Guarded) -> Iterator[httpx.Client]:
    with running.browser() as browser:
        assert sign_in(browser).status_code == 303
        yield browser


@pytest.fixture
def desk(running: Guarded) -> Guarded:
    """Nothing got past its protection so far."""
    running.log.clear()
    return running


@pytest.fixture
def ann(desk: Guarded, signed_in: httpx.Client) -> httpx.Client:
    """Her browser, signed in."""
    return signed_in


def csrf(browser: httpx.Client) -> str:
    return str(browser.get("/").json()["csrf"])


def raw(desk: Guarded, request: str, body: bytes = b"") -> tuple[int, str]:
    """Bytes that no client library would send; status and text of the answer."""
    with socket.create_connection(("127.0.0.1", desk.port), timeout=300) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1") + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1]), answer.decode("utf-8", "replace")


def asked(desk: Guarded, target: str, host: str | None = None) -> tuple[int, str]:
    return raw(desk, f"GET {target} HTTP/1.1\nHost: {host or f'127.0.0.1:{desk.port}'}\nConnection: close\n\n")


# Headers


def test_every_kind_of_answer_has_the_strict_headers(desk: Guarded, ann: httpx.Client) -> None:
    token = csrf(ann)
    with desk.browser() as stranger:
        answers = {
            200: ann.get("/"),
            303: stranger.get("/"),
            401: stranger.get("/api/requests"),
            403: ann.post("/"),
            413: ann.post("/", content=b"x" * (LARGEST_BODY + 1)),
            414: ann.get("/?q=" + "x" * 9000),
            421: ann.get("/", headers={"Host": "evil.example"}),
            500: ann.get("/broken"),
        }
        answers[400] = ann.get("/%2e%2e/x")
        others = [stranger.get("/sign-in"), stranger.get("/health"), ann.post("/", data={"csrf": token}), ann.head("/")]
    for status, answer in [*answers.items(), *((200, other) for other in others)]:
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in STRICT} == STRICT, status
        assert "strict-transport-security" not in answer.headers


def test_static_files_may_be_kept(desk: Guarded) -> None:
    with desk.browser() as stranger:
        answer = stranger.get("/static/desk.css")
    assert (answer.status_code, answer.headers.get("cache-control")) == (200, None)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_mistake_shows_no_traceback(ann: httpx.Client) -> None:
    answer = ann.get("/broken")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text


def test_a_refusal_is_a_page_for_people_and_json_for_programs(ann: httpx.Client) -> None:
    page = ann.post("/requests")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.search(r'<html lang="en">.*<title>.+</title>.*<main.*<h1>Forbidden</h1>', page.text, re.DOTALL)
    assert ann.post("/api/requests").json() == {
        "error": "The form does not come from your present session. Open the page again and send it from there."
    }


# Limits


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_taken_up_to_a_mebibyte_however_it_is_sent(desk: Guarded, ann: httpx.Client, chunked: bool) -> None:
    headers = {"X-CSRF-Token": csrf(ann)}

    def content(size: int) -> Any:
        return iter([b"x" * (size // 2), b"x" * (size - size // 2)]) if chunked else b"x" * size

    taken = ann.post("/api/x", content=content(LARGEST_BODY), headers=headers)
    assert (taken.status_code, len(taken.json()["body"])) == (200, LARGEST_BODY)
    desk.log.clear()
    for size in (LARGEST_BODY + 1, 8 * LARGEST_BODY):
        refused = ann.post("/api/x", content=content(size), headers=headers)
        assert (refused.status_code, refused.json()) == (
            413, {"error": "The request holds more than 1 MiB, and nothing here needs as much."}
        )  # fmt: skip
    assert desk.log == []


def test_a_body_that_is_only_announced_holds_nobody_up(desk: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_assets.desk.security.LONGEST_UPLOAD_S", 0.3)
    request = f"POST /sign-in HTTP/1.1\nHost: 127.0.0.1:{desk.port}\nContent-Length: 1000\n\n"
    status, text = raw(desk, request, b"name=ann")
    assert (status, "took too long to arrive" in text) == (408, True)


def test_form_fields_arrive_whole_after_they_were_checked(ann: httpx.Client) -> None:
    token = csrf(ann)
    answer = ann.post("/requests", data={"csrf": token, "reason": "größer & <b>"})
    assert answer.json()["body"] == f"csrf={token}&reason=gr%C3%B6%C3%9Fer+%26+%3Cb%3E"


@pytest.mark.parametrize(
    "target",
    ["/static/../audit", "/static/%2e%2e/audit", "/..%2faudit", "//evil.example/x", "/./audit", "/a%00b", "/a%0d%0ab",
     "/sign-in/../audit", "/sign-in/%2e%2e/audit", "/%2f/evil.example"],
)  # fmt: skip
def test_tricks_with_paths_are_refused_before_anything_reads_them(desk: Guarded, target: str) -> None:
    status, text = asked(desk, target)
    assert (status, "a step up" in text) == (400, True)
    assert desk.log == []


@pytest.mark.parametrize(
    "target", ["/sign-inside", "/staticx", "/health/x", "/api", "/apiary", "/api/openapi.jsonx", "/SIGN-IN"]
)
def test_only_what_is_free_is_free(desk: Guarded, target: str) -> None:
    assert asked(desk, target)[0] in (303, 401)
    assert desk.log == []


# Names


def test_it_answers_to_its_own_names_only(project: Project) -> None:
    own = (
        "127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT", "desk.example.org", "desk.example.org:443",
        "Desk.Example.Org",
    )  # fmt: skip
    others = (
        "evil.example", "evil.example:PORT", "127.0.0.1", "localhost:1", " ", "desk.example.org.evil.example",
        "desk.example.org:8080", "127.0.0.1:PORT@evil", "desk.example.org, evil.example",
    )  # fmt: skip
    with opened(project, url="https://desk.example.org") as desk:
        for host in (*own, *others):
            status, text = asked(desk, "/", host.replace("PORT", str(desk.port)))
            assert status == (303 if host in own else 421), host
            assert host in own or "set `url` in desk.yaml" in text
            assert asked(desk, "/health", host.replace("PORT", str(desk.port)))[0] == 200
        assert raw(desk, "GET / HTTP/1.0\n\n")[0] == 421


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Desk.Example.org:443", "https://desk.example.org"),
        ("http://desk.example.org:80/", "http://desk.example.org"),
        ("http://[::1]:3001", "http://[::1]:3001"),
        ("https://desk.example.org:8443", "https://desk.example.org:8443"),
    ],
)  # fmt: skip
def test_an_origin_is_written_as_browsers_do(url: str, origin: str) -> None:
    assert Address(url).origin == origin


# Forged requests


def test_a_form_needs_the_token_of_its_own_session(desk: Guarded, ann: httpx.Client) -> None:
    with desk.browser() as other, desk.browser() as stranger:
        sign_in(other, "bob")
        tokens = {
            "other session": csrf(other),
            "no session": token_in(stranger.get("/sign-in")),
            "none": None,
            "empty": "",
        }
        tokens |= {"shorter": csrf(ann)[:-1], "not ASCII": "ü" * 64, "upper case": csrf(ann).upper()}
        desk.log.clear()
        for kind, token in tokens.items():
            fields = {} if token is None else {"csrf": token}
            assert ann.post("/requests", data=fields).status_code == 403, kind
            headers = {} if token is None else {"X-CSRF-Token": token.encode()}
            for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
                assert ann.request(method, "/api/requests", headers=headers).status_code == 403, (kind, method)
    assert desk.log == []
    token = csrf(ann)
    assert ann.post("/requests", data={"csrf": token}).status_code == 200
    assert ann.put("/api/requests", headers={"X-CSRF-Token": token}, json={}).status_code == 200
    assert ann.delete("/api/requests", headers={"X-CSRF-Token": token}).status_code == 200


def test_a_token_in_the_address_or_given_twice_counts_for_nothing(ann: httpx.Client) -> None:
    token = csrf(ann)
    assert ann.post(f"/requests?csrf={token}").status_code == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ann.post("/requests", content=f"csrf={token}&csrf={token}", headers=form).status_code == 403
    assert ann.post("/requests", content=json.dumps({"csrf": token})).status_code == 403
    assert ann.post("/requests", files={"csrf": (None, token)}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "OWN"}, 200),
        ({"Referer": "OWN/requests"}, 200),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "OWN.evil.example"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Referer": "https://evil.example/OWN"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example", "Referer": "OWN/"}, 403),
    ],
)  # fmt: skip
def test_a_form_must_come_from_a_page_of_the_desk(
    desk: Guarded, ann: httpx.Client, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.replace("OWN", desk.url) for name, value in headers.items()}
    assert ann.post("/requests", data={"csrf": csrf(ann)}, headers=sent).status_code == status


def test_nobody_can_be_signed_in_by_another_site(desk: Guarded) -> None:
    with desk.browser() as victim, desk.browser() as attacker:
        fields = {"name": "ann", "password": PASSWORD, "csrf": token_in(attacker.get("/sign-in"))}
        victim.get("/sign-in")
        assert victim.post("/sign-in", data=fields).status_code == 403
        assert attacker.post("/sign-in", data=fields, headers={"Origin": "https://evil.example"}).status_code == 403
        assert attacker.post("/sign-in", data=fields).status_code == 303


def test_a_page_of_another_site_may_lead_here(ann: httpx.Client) -> None:
    answer = ann.get("/", headers={"Sec-Fetch-Site": "cross-site", "Referer": "https://mail.example/"})
    assert answer.json()["person"] == "ann"


# The proxy in front

TRUSTED: dict[str, Any] = {"proxy": {"header": "X-User", "groups_header": "X-Groups", "addresses": ["127.0.0.0/8"]}}
ELSEWHERE: dict[str, Any] = {"proxy": {"header": "X-User", "groups_header": "X-Groups", "addresses": ["10.0.0.0/8"]}}


def test_whom_the_proxy_names_is_known_and_may_nothing_yet(project: Project) -> None:
    with opened(project, sign_in=TRUSTED) as desk, desk.browser() as browser:
        for _ in range(2):
            answer = browser.get("/", headers={"X-User": "Dora@Example.org", "X-Groups": "legal, finance,"}).json()
            assert (answer["person"], answer["roles"], answer["groups"]) == (
                "dora@example.org", {}, ["finance", "legal"]
            )  # fmt: skip
        with desk.stores.state.write() as connection:
            people.give(connection, "group:legal", "approver", "notes", by="test")
        named = {"X-User": "dora@example.org", "X-Groups": "legal"}
        assert browser.get("/", headers=named).json()["roles"] == {"notes": "approver"}
        assert browser.get("/", headers={"X-User": "dora@example.org"}).json()["roles"] == {}
        assert browser.get("/").status_code == 303
        assert browser.get("/", headers={"X-User": ""}).status_code == 303
        with desk.stores.state.read() as connection:
            assert [r.subject["person"] for r in audit.select(connection, actor="proxy")] == ["dora@example.org"]
        with desk.stores.state.write() as connection:
            people.disable(connection, "dora@example.org", by="test")
        refused = browser.get("/", headers=named)
        assert (refused.status_code, "dora@example.org is disabled here" in refused.text) == (403, True)


def test_the_header_from_anywhere_else_is_an_error(project: Project) -> None:
    with opened(project, sign_in=ELSEWHERE) as desk, desk.browser() as browser:
        known(desk.stores.state)
        for header in ({"X-User": "ann"}, {"X-User": ""}, {"X-Groups": "legal"}, {"x-uSER": "ann"}):
            for path in ("/", "/sign-in", "/api/requests"):
                answer = browser.get(path, headers=header)
                assert (answer.status_code, "your address is not that of the proxy" in answer.text) == (403, True)
            assert browser.get("/", headers={**header, "X-Forwarded-For": "10.0.0.1"}).status_code == 403
        assert desk.log == []
        assert sign_in(browser).status_code == 303
        assert browser.get("/").json()["person"] == "ann"


def test_a_name_that_came_twice_or_is_no_name_is_refused(project: Project) -> None:
    with opened(project, sign_in=TRUSTED) as desk, desk.browser() as browser:
        assert browser.get("/", headers=[("X-User", "ann"), ("X-User", "admin")]).status_code == 403
        for name in ("ai-assets", "group:legal", "a b", "x" * 200):
            assert browser.get("/", headers={"X-User": name}).status_code == 403
        assert desk.log == []


def test_behind_a_proxy_a_form_still_needs_its_token(project: Project) -> None:
    with opened(project, sign_in=TRUSTED) as desk, desk.browser() as browser, desk.browser() as other:
        named = {"X-User": "ann"}
        token = browser.get("/", headers=named).json()["csrf"]
        assert browser.post("/requests", headers=named).status_code == 403
        assert browser.post("/requests", data={"csrf": token}, headers=named).status_code == 200
        assert browser.post("/requests", data={"csrf": token}, headers={"X-User": "bob"}).status_code == 403
        other.get("/", headers=named)
        assert other.post("/requests", data={"csrf": token}, headers=named).status_code == 403


def scope(host: str, port: int = 4711, **headers: str) -> Scope:
    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (host, port), "headers": listed}


def test_only_the_address_of_the_connection_makes_a_proxy() -> None:
    settings = ProxySettings(addresses=("10.0.0.0/8", "fd00::/8", "192.168.1.7"))
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "fd00::1%eth0", "192.168.1.7"):
        assert proxy.is_proxy(scope(host), settings), host
    for host in ("11.0.0.1", "::1", "192.168.1.8", "localhost", "", "10.0.0.1, 10.0.0.2"):
        assert not proxy.is_proxy(scope(host), settings), host
    assert not proxy.is_proxy(scope("10.1.2.3", port=0), settings)  # taken from a header, not from the connection
    assert not proxy.is_proxy({"type": "http", "client": None, "headers": []}, settings)


def test_the_address_behind_a_proxy_is_the_last_that_the_proxy_added() -> None:
    settings = ProxySettings(addresses=("10.0.0.0/8",))
    forwarded = "6.6.6.6, 203.0.113.9"
    assert proxy.client_address(scope("10.0.0.1", x_forwarded_for=forwarded), settings) == "203.0.113.9"
    assert proxy.client_address(scope("10.0.0.1"), settings) == "10.0.0.1"
    assert proxy.client_address(scope("8.8.8.8", x_forwarded_for=forwarded), settings) == "8.8.8.8"
    assert proxy.client_address(scope("8.8.8.8", x_forwarded_for=forwarded), None) == "8.8.8.8"


@given(st.text(max_size=60))
def test_no_host_header_is_taken_for_another(text: str) -> None:
    address = Address("https://desk.example.org")
    asked_for: Scope = {
        "type": "http", "server": ("0.0.0.0", 3001),
        "headers": [(b"host", text.encode("utf-8", "surrogatepass"))],
    }  # fmt: skip
    assert address.origin_of(asked_for) in (None, "https://desk.example.org", f"http://{text.lower()}")
    if address.origin_of(asked_for) is not None:
        assert text.lower() in {
            "desk.example.org",
            "desk.example.org:443",
            "localhost:3001",
            "127.0.0.1:3001",
            "[::1]:3001",
        }
