"""People who sign, known to a store or not, and what they do; some of it in processes of their own.

Such a process imports this module first, so it imports little.
"""

from collections.abc import Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.signoff import corrections, decisions, passwords, people, requests
from ai_assets.signoff.decisions import Verdict
from ai_assets.signoff.people import EVERYWHERE, Person, Role
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

PASSWORD = "a walk in the autumn rain"


@cache
def _hashed() -> str:
    """Made once: it takes its time on purpose."""
    return passwords.hashed(PASSWORD)


def somebody(name: str = "ann", role: Role = "approver", *groups: str, email: str | None = None) -> Person:
    """For claims to which it does not matter whether anybody knows them."""
    return Person(name=name, email=email, groups=frozenset(groups), roles={EVERYWHERE: role})


def known(
    state: StateStore,
    name: str = "ann",
    role: Role | None = "approver",
    collection: str = EVERYWHERE,
    groups: Sequence[str] = (),
) -> Person:
    """Somebody with a local account, whose password is PASSWORD, and with that role."""
    with state.write() as connection:
        people.add(connection, name, email=None, password_hash=_hashed(), by="test")
        if role is not None:
            people.give(connection, name, role, collection, by="test")
        for group in groups:
            people.join(connection, name, group, by="test")
        found = people.find(connection, name)
    assert found is not None
    return found


def made_known(state: StateStore, person: Person) -> Person:
    """The same person, whom the store and its chain know with these roles and groups."""
    with state.write() as connection:
        if people.standing(connection, person.name) == "unknown":
            people.add(connection, person.name, email=person.email, password_hash=_hashed(), by="test")
            for place, role in person.roles.items():
                people.give(connection, person.name, role, place, by="test")
            for group in sorted(person.groups):
                people.join(connection, person.name, group, by="test")
    return person


def current(state: StateStore, partition: str, collection: str = "notes") -> SignoffRequest:
    """The newest request of a partition, whatever became of it."""
    with state.read() as connection:
        found = requests.latest_of(connection, collection, partition)
    assert found is not None
    return found


def decide(
    state: StateStore,
    collection: Collection,
    partitions: Sequence[str] | None = None,
    verdict: Verdict = "approve",
    *,
    by: str | Person = "ann",
    reason: str | None = None,
    waivers: dict[str, str] | None = None,
) -> list[SignoffRequest]:
    """One person's decision on what waits, as the command line makes it."""
    rules = collection.settings.signoff
    with state.read() as connection:
        choices = decisions.waiting(connection, collection.name, partitions, rules)
    person = made_known(state, somebody(by) if isinstance(by, str) else by)
    return decisions.decide(
        state, collection.name, choices, verdict, by=person, reason=reason, rules=rules, waivers=waivers
    )


def correct_when_told(
    home: Home, collection: Collection, partition: str, document: str, name: str, label: str, line: Connection
) -> None:
    """A reviewer's correction of a label of the stage `kind`."""
    stores = Stores.at(home)
    request = current(stores.state, partition)
    line.send("ready")
    line.recv()
    corrections.correct(
        stores, collection=collection, request=request, document_id=document, stage="kind", label=label, reason="",
        by=somebody(name, "reviewer"),
    )  # fmt: skip


def knock_when_told(url: str, said: Connection, gate: Barrier) -> None:
    """Six sign-ins with a wrong password, as fast as they go."""
    state, outcomes = StateStore(url), []
    passwords._nobodys()
    gate.wait(60)
    for _ in range(6):
        try:
            passwords.authenticate(state, "ann", "wrong", "here")
        except UserError as error:
            outcomes.append(type(error).__name__)
    said.send(outcomes)
