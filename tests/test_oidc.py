"""Claims about signing in with an OpenID Connect provider: a real one, in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from conftest import Project, free_port
from desks import PLAIN
from guarded import Guarded, opened
from signing import known

from ai_assets.desk.settings import OidcSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import audit, people

ANN = {"sub": "1", "email": "Ann@Example.org", "email_verified": True, "groups": ["legal", "finance"]}


@dataclass
class ProviderProcess:
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """With a key that nobody has seen before."""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(self.port)],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 300
        while time.monotonic() < until and self.process.poll() is None:
            try:
                httpx.get(f"{self.issuer}/jwks", **PLAIN).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the provider did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def knows(self, claims: Mapping[str, Any]) -> None:
        """A person, and all that their ID tokens say; also where that is wrong."""
        httpx.put(f"{self.issuer}/users/{claims['sub']}", json=dict(claims), **PLAIN).raise_for_status()


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    found = ProviderProcess(port=free_port())
    found.start()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_CLIENT_SECRET", "a-client-secret")


@contextmanager
def desk_of(project: Project, provider: ProviderProcess, **oidc: Any) -> Iterator[Guarded]:
    client = {"client_id": "desk", "client_secret_env": "DESK_CLIENT_SECRET"}
    settings = {"name": "Example ID", "issuer": provider.issuer, "groups_claim": "groups", **client}
    with opened(project, sign_in={"oidc": {**settings, **oidc}}) as found:
        yield found


def agreed(address: str, sub: str, **changed: str) -> str:
    """What a person does at the provider: they say who they are, and are sent back. Parameters may be changed."""
    parts = urlsplit(address)
    parameters = {name: values[0] for name, values in parse_qs(parts.query).items()} | changed
    url = f"{parts.scheme}://{parts.netloc}{parts.path}"
    answer = httpx.post(url, params=parameters, data={"sub": sub}, **PLAIN)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def signed_in(browser: httpx.Client, sub: str = "1", *, to: str = "/", **changed: str) -> httpx.Response:
    leaving = browser.get("/sign-in/oidc", params={"next": to})
    assert leaving.status_code == 303, leaving.text
    return browser.get(agreed(leaving.headers["location"], sub, **changed))


def test_who_comes_from_the_provider_is_known_and_may_nothing_yet(project: Project, provider: ProviderProcess) -> None:
    provider.knows(ANN)
    with desk_of(project, provider) as desk, desk.browser() as browser:
        form = browser.get("/sign-in", params={"next": "/requests/7"})
        assert 'href="/sign-in/oidc?next=/requests/7"' in form.text
        assert "Sign in with Example ID" in form.text
        came_in = signed_in(browser, to="/requests/7")
        assert (came_in.status_code, came_in.headers["location"]) == (303, "/requests/7")
        answer = browser.get("/").json()
        assert (answer["person"], answer["roles"], answer["groups"]) == ("ann@example.org", {}, ["finance", "legal"])
        with desk.stores.state.write() as connection:
            people.give(connection, "group:legal", "approver", "notes", by="test")
        assert browser.get("/").json()["roles"] == {"notes": "approver"}
        signed_in(browser)
        with desk.stores.state.read() as connection:
            assert [record.subject["person"] for record in audit.select(connection, actor="oidc")] == [
                "ann@example.org"
            ]


def test_the_flow_shows_nothing_that_opens_it(project: Project, provider: ProviderProcess) -> None:
    with desk_of(project, provider) as desk, desk.browser() as browser:
        leaving = browser.get("/sign-in/oidc")
        asked = parse_qs(urlsplit(leaving.headers["location"]).query)
        assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
        assert asked["redirect_uri"] == [f"{desk.url}/sign-in/callback"]
        flow = Seal.of(project.home).opened("oidc flow", browser.cookies["desk-flow"], 600)
        assert flow is not None
        assert (flow["state"], flow["nonce"]) == (asked["state"][0], asked["nonce"][0])
        assert flow["verifier"] not in leaving.headers["location"]
        assert "HttpOnly" in leaving.headers["set-cookie"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"email_verified": False}, "has not verified the e-mail address"),
    ({"email_verified": "false"}, "has not verified the e-mail address"),
    ({"email_verified": []}, "has not verified the e-mail address"),
    ({"email_verified": None}, "the claim &#39;email_verified&#39; is missing"),
    ({"email_verified": None}, "set sign_in.oidc.email_verified: ignore"),
    ({"aud": "another-client"}, "does not hold (invalid_claim)"),
    ({"aud": ["desk", "another-client"]}, "made for another client"),
    ({"azp": "another-client"}, "made for another client"),
    ({"iss": "https://evil.example"}, "does not hold (invalid_claim)"),
    ({"exp": 1}, "does not hold (expired_token)"),
    ({"exp": None}, "does not hold (missing_claim)"),
    ({"nonce": "another"}, "does not hold (invalid_claim)"),
    ({"nonce": None}, "does not hold (missing_claim)"),
    ({"email": None}, "does not say &#39;email&#39;"),
    ({"email": "ai-assets"}, "cannot be anybody&#39;s name here"),
    ({"email": "<b>x</b>"}, "cannot be anybody&#39;s name here"),
]


def test_a_token_that_is_wrong_lets_nobody_in(project: Project, provider: ProviderProcess) -> None:
    with desk_of(project, provider) as desk, desk.browser() as browser:
        for claims, said in WRONG:
            provider.knows({**ANN, "sub": "wrong", **claims})
            answer = signed_in(browser, "wrong")
            assert (answer.status_code, said in answer.text) == (403, True), answer.text
            assert "Signing in with Example ID did not work" in answer.text
            assert "desk" not in answer.cookies
            assert browser.get("/").status_code == 303
        with desk.stores.state.read() as connection:
            assert not people.anybody(connection)


def test_a_changed_nonce_or_client_is_noticed(project: Project, provider: ProviderProcess) -> None:
    provider.knows(ANN)
    with desk_of(project, provider) as desk, desk.browser() as browser:
        answer = signed_in(browser, nonce="planted")
        assert (answer.status_code, "does not hold (invalid_claim)" in answer.text) == (403, True)
        answer = signed_in(browser, client_id="another-client")
        assert (answer.status_code, "did not accept the sign-in" in answer.text) == (403, True)


def test_what_comes_back_must_belong_to_what_this_browser_began(project: Project, provider: ProviderProcess) -> None:
    provider.knows(ANN)
    with desk_of(project, provider) as desk, desk.browser() as browser, desk.browser() as victim:
        back = agreed(browser.get("/sign-in/oidc").headers["location"], "1")
        answers = [victim.get(back)]
        victim.get("/sign-in/oidc")
        answers.append(victim.get(back))
        victim.cookies.set("desk-flow", "x.y", domain="127.0.0.1", path="/")
        answers += [victim.get(back), browser.get(back.replace("state=", "state=x")), browser.get("/sign-in/callback")]
        for answer in answers:
            assert (answer.status_code, "begun too long ago, or in another window" in answer.text) == (403, True)
            assert "desk" not in answer.cookies
        back = agreed(browser.get("/sign-in/oidc").headers["location"], "1")
        kept = browser.cookies["desk-flow"]
        assert browser.get(back).status_code == 303
        with desk.browser(cookies={"desk-flow": kept}) as thief:  # the code was used
            assert "did not accept the sign-in" in thief.get(back).text


def test_what_the_provider_refuses_is_one_sentence(project: Project, provider: ProviderProcess) -> None:
    with desk_of(project, provider) as desk, desk.browser() as browser:
        for error, said in (
            ("access_denied", "the provider says access_denied"),
            ("<b>", "the provider says an error"),
        ):
            leaving = browser.get("/sign-in/oidc").headers["location"]
            state = parse_qs(urlsplit(leaving).query)["state"][0]
            answer = browser.get("/sign-in/callback", params={"state": state, "error": error})
            assert (answer.status_code, said in answer.text, "<b>" in answer.text) == (403, True, False)


def test_a_provider_that_is_down_leaves_passwords_usable(project: Project, provider: ProviderProcess) -> None:
    down = ProviderProcess(port=free_port())
    with desk_of(project, down) as desk, desk.browser() as browser:
        answer = browser.get("/sign-in/oidc")
        assert (answer.status_code, "the provider does not answer" in answer.text) == (502, True)
        assert 'type="password"' in answer.text


def test_a_provider_with_new_keys_is_believed(project: Project) -> None:
    provider = ProviderProcess(port=free_port())
    provider.start()
    try:
        provider.knows(ANN)
        with desk_of(project, provider) as desk, desk.browser() as browser:
            assert signed_in(browser).status_code == 303
            provider.stop()
            answer = browser.get("/sign-in/oidc")
            assert answer.status_code == 303  # what it says of itself is remembered
            provider.start()
            provider.knows(ANN)
            assert signed_in(browser).status_code == 303
            leaving = browser.get("/sign-in/oidc").headers["location"]
            back = agreed(leaving, "1")
            provider.stop()
            assert "the provider does not answer" in browser.get(back).text
    finally:
        provider.stop()


def test_who_is_disabled_here_is_told_so(project: Project, provider: ProviderProcess) -> None:
    provider.knows(ANN)
    with desk_of(project, provider) as desk, desk.browser() as browser:
        signed_in(browser)
        with desk.stores.state.write() as connection:
            people.disable(connection, "ann@example.org", by="test")
        assert browser.get("/").status_code == 303
        answer = signed_in(browser)
        assert (answer.status_code, "Ann@Example.org is disabled here" in answer.text) == (403, True)


def test_a_session_of_before_ends_and_the_token_is_new(project: Project, provider: ProviderProcess) -> None:
    provider.knows(ANN)
    with desk_of(project, provider) as desk, desk.browser() as browser:
        first = signed_in(browser).cookies["desk"]
        second = signed_in(browser).cookies["desk"]
        assert first != second
        with desk.browser(cookies={"desk": first}) as old:
            assert old.get("/").status_code == 303


def test_a_secret_that_is_not_set_is_named(
    project: Project, provider: ProviderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.knows(ANN)
    monkeypatch.delenv("DESK_CLIENT_SECRET")
    with desk_of(project, provider) as desk, desk.browser() as browser:
        answer = browser.get("/sign-in/oidc")
        assert "the environment variable DESK_CLIENT_SECRET of the desk is not set" in answer.text
        monkeypatch.setenv("DESK_CLIENT_SECRET", "a-client-secret")
        assert signed_in(browser).status_code == 303


def test_from_another_name_of_the_desk_the_flow_begins_at_its_own(project: Project, provider: ProviderProcess) -> None:
    with desk_of(project, provider) as desk, desk.browser() as browser:
        known(desk.stores.state)
        answer = browser.get("/sign-in/oidc?next=/audit", headers={"Host": f"localhost:{desk.port}"})
        assert answer.headers["location"] == f"{desk.url}/sign-in/oidc?next=/audit"


def test_a_provider_that_calls_itself_another_is_refused(project: Project, provider: ProviderProcess) -> None:
    aliased = f"http://localhost:{provider.port}/"
    assert OidcSettings(issuer=aliased, client_id="desk").issuer == aliased.rstrip("/")
    with desk_of(project, provider, issuer=f"{provider.issuer}/other") as desk, desk.browser() as browser:
        answer = browser.get("/sign-in/oidc")
        assert (answer.status_code, "the provider answered with an error" in answer.text) == (502, True)


def without_verification(sub: str) -> dict[str, Any]:
    """As Microsoft Entra ID says it: an address, and nothing on whether it is verified."""
    return {"sub": sub, "email": "eva@example.org", "preferred_username": "eva"}


def test_an_address_of_which_the_provider_says_nothing_names_nobody(
    project: Project, provider: ProviderProcess
) -> None:
    provider.knows(without_verification("8"))
    with desk_of(project, provider) as desk, desk.browser() as browser:
        answer = signed_in(browser, "8")
        assert (answer.status_code, "&#39;email_verified&#39; is missing" in answer.text) == (403, True)
        with desk.stores.state.read() as connection:
            assert not people.anybody(connection)


def test_an_unsaid_address_is_not_kept_beside_another_name(project: Project, provider: ProviderProcess) -> None:
    provider.knows(without_verification("8"))
    with desk_of(project, provider, name_claim="preferred_username") as desk, desk.browser() as browser:
        assert signed_in(browser, "8").status_code == 303
        with desk.stores.state.read() as connection:
            assert [(found.name, found.email) for found in people.everyone(connection)] == [("eva", None)]


@pytest.mark.parametrize(("said", "status"), [(None, 303), (True, 303), (False, 403), ("false", 403)])
def test_a_desk_may_ignore_what_is_not_said_but_never_a_no(
    project: Project, provider: ProviderProcess, said: bool | str | None, status: int
) -> None:
    claims = without_verification("9") | ({} if said is None else {"email_verified": said})
    provider.knows(claims)
    with desk_of(project, provider, email_verified="ignore") as desk, desk.browser() as browser:
        assert signed_in(browser, "9").status_code == status


def test_the_name_may_be_another_claim(project: Project, provider: ProviderProcess) -> None:
    provider.knows({"sub": "7", "preferred_username": "dora", "email": "d@example.org", "email_verified": False})
    with desk_of(project, provider, name_claim="preferred_username") as desk, desk.browser() as browser:
        assert signed_in(browser, "7").status_code == 303
        assert browser.get("/").json()["person"] == "dora"
        with desk.stores.state.read() as connection:
            assert [account.email for account in people.everyone(connection)] == [None]  # it was not verified
    with desk_of(project, provider, name_claim="nickname") as desk, desk.browser() as browser:
        answer = signed_in(browser, "7")  # neither the token nor the userinfo says it
        assert (answer.status_code, "does not say &#39;nickname&#39;" in answer.text) == (403, True)
