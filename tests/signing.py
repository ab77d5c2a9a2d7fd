"""People who sign, and their decisions, for tests whose claim is about something else."""

from collections.abc import Sequence

from ai_assets.collection import Collection
from ai_assets.signoff import decisions
from ai_assets.signoff.decisions import Verdict
from ai_assets.signoff.people import EVERYWHERE, Person, Role
from ai_assets.signoff.requests import Request
from resources.state import StateStore


def somebody(name: str = "ann", role: Role = "approver", *groups: str, email: str | None = None) -> Person:
    return Person(name=name, email=email, groups=frozenset(groups), roles={EVERYWHERE: role})


def decide(
    state: StateStore,
    collection: Collection,
    partitions: Sequence[str] | None = None,
    verdict: Verdict = "approve",
    *,
    by: str | Person = "ann",
    reason: str | None = None,
    waivers: dict[str, str] | None = None,
) -> list[Request]:
    """One person's decision on what waits, as the command line makes it."""
    rules = collection.settings.signoff
    with state.read() as connection:
        choices = decisions.waiting(connection, collection.name, partitions, rules)
    person = somebody(by) if isinstance(by, str) else by
    return decisions.decide(
        state, collection.name, choices, verdict, by=person, reason=reason, rules=rules, waivers=waivers
    )
