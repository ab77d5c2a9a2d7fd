"""Claims about passkeys: at the desk, in a real browser with Chromium's own virtual authenticator."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import CHROMIUM, Project
from desks import DeskProcess, desk
from playwright.sync_api import BrowserContext, CDPSession, Page, Route, expect, sync_playwright
from signing import PASSWORD, current, known
from test_personal_keys import enrol, ssh_key

from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, authority, key_changes, verification
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

DAYS = ["2026-10-05", "2026-10-06"]
AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest.fixture
def strict(project: Project) -> Collection:
    """Two days that wait for an approval by a key of the person's own."""
    project.documents(per_day=2, days=2)
    collection = project.declare(signoff={"personal_keys": "required"})
    project.refresh(collection)
    return collection


@pytest.fixture
def stores(project: Project, strict: Collection) -> Stores:
    known(project.stores().state, "maria")
    return project.stores()


@pytest.fixture
def running(project: Project, stores: Stores) -> Iterator[DeskProcess]:
    with desk(project) as found:
        yield found


@pytest.fixture
def browser(skip_loudly_without_chromium: None) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started.new_context()
        started.close()


@contextmanager
def authenticator(page: Page) -> Iterator[tuple[CDPSession, str]]:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable", {"enableUI": False})
    found = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    yield session, found["authenticatorId"]


def sign_in(page: Page, running: DeskProcess, host: str = "localhost") -> None:
    page.goto(f"http://{host}:{running.port}/sign-in")
    page.get_by_label("Name").fill("maria")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"http://{host}:{running.port}/")


def add_passkey(page: Page) -> None:
    page.goto(page.url.rstrip("/") + "/account")
    page.get_by_role("button", name="Add a passkey").click()


def approve(page: Page, running: DeskProcess, stores: Stores, day: str) -> None:
    request = current(stores.state, day)
    page.goto(f"http://localhost:{running.port}/requests/{request.request_id}")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_role("button", name="Yes, approve").click()


def test_a_passkey_is_added_and_signs_what_is_approved(
    browser: BrowserContext, running: DeskProcess, stores: Stores, strict: Collection
) -> None:
    page = browser.new_page()
    sign_in(page, running)
    request = current(stores.state, DAYS[0])
    page.goto(f"{page.url}requests/{request.request_id}")
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_text("Approvals here are signed with a key of your own")).to_be_visible()
    expect(page.get_by_role("button", name="Yes, approve")).to_be_disabled()
    with authenticator(page):
        page.goto(f"http://localhost:{running.port}")
        add_passkey(page)
        expect(page.get_by_text("passkey since record")).to_be_visible()
        approve(page, running, stores, DAYS[0])
        expect(page).to_have_url(f"http://localhost:{running.port}/requests/{request.request_id}")
        assert current(stores.state, DAYS[0]).status == "approved"
        page.goto(f"http://localhost:{running.port}/")
        page.locator("input[name=choice][type=checkbox]").first.check()
        page.locator("#bulk").get_by_role("button", name="Approve").click()
        page.get_by_role("button", name="Yes, approve").click()
        expect(page.get_by_text("approved").first).to_be_visible()
    assert current(stores.state, DAYS[1]).status == "approved"
    with stores.state.read() as connection:
        said = audit.select(connection, actions=["statement signed"])
    assert [record.actor for record in said] == ["maria", "maria"]
    assert publish(strict, stores, by="test").release.number == 1
    verification.verify(stores.state)


def test_a_further_passkey_takes_a_signature_by_the_first(
    browser: BrowserContext, running: DeskProcess, stores: Stores
) -> None:
    page = browser.new_page()
    sign_in(page, running)
    with authenticator(page) as (session, first):
        add_passkey(page)
        expect(page.get_by_text("passkey since record")).to_have_count(1)
        (kept,) = session.send("WebAuthn.getCredentials", {"authenticatorId": first})["credentials"]
        session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": first})
        second = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
        held: list[Route] = []
        page.route("**/account/passkeys/add", lambda route: held.append(route))
        page.get_by_role("button", name="Add a passkey").click()
        while not held:
            page.wait_for_timeout(50)  # the second passkey is made; now the first comes back to vouch for it
        session.send("WebAuthn.addCredential", {"authenticatorId": second, "credential": kept})
        held[0].continue_()
        expect(page.get_by_text("passkey since record")).to_have_count(2)
    with stores.state.read() as connection:
        assert len(authority.of(connection).own_keys("maria")) == 2
    verification.verify(stores.state)


def test_what_goes_wrong_is_said_and_nothing_is_recorded(
    browser: BrowserContext, running: DeskProcess, stores: Stores, tmp_path: Path
) -> None:
    page = browser.new_page()
    sign_in(page, running)
    with authenticator(page) as (session, first):
        add_passkey(page)
        expect(page.get_by_text("passkey since record")).to_be_visible()
        session.send("WebAuthn.setUserVerified", {"authenticatorId": first, "isUserVerified": False})
        session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": first})
        session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})  # holds no passkey of ours
        approve(page, running, stores, DAYS[0])
        expect(page.get_by_text("The passkey was not used")).to_be_visible()
        assert current(stores.state, DAYS[0]).status == "open"
    with stores.state.read() as connection:
        (key_id,) = authority.of(connection).own_keys("maria")
    key_changes.revoke_own(stores.state, key_id, by="test", reason="lost")
    enrol(stores.state, known(stores.state, "maria"), ssh_key(tmp_path))
    page.goto(f"http://localhost:{running.port}")
    add_passkey(page)
    expect(page.get_by_text("theirs are on the command line only")).to_be_visible()


def test_at_an_address_the_page_says_where_passkeys_work(
    browser: BrowserContext, running: DeskProcess, stores: Stores
) -> None:
    page = browser.new_page()
    sign_in(page, running, "127.0.0.1")
    page.goto(f"{page.url}account")
    expect(page.get_by_text(f"Open the desk at http://localhost:{running.port} for that.")).to_be_visible()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_disabled()
