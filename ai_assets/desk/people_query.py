"""Who is known, as an administrator may see it: all of it, or what concerns the collections they administer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.tenants import PLACE
from ai_assets.collection.settings import GROUP
from ai_assets.desk import sessions
from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.desk.sessions import Session
from ai_assets.desk.settings import SignInSettings
from ai_assets.desk.views import GivenRole, GroupRow, PersonRow
from ai_assets.signoff import people
from ai_assets.signoff.people import EVERYWHERE, Person, PersonAccount, Role


def is_admin(person: Person) -> bool:
    """Somewhere: of a collection, or of all."""
    return "admin" in person.roles.values()


def administered(desk: Desk, person: Person) -> list[str]:
    """Where they may give roles: in collections and tenants that are declared, and '*' for whom that is theirs."""
    everywhere = [EVERYWHERE] if person.may("admin", EVERYWHERE) else []
    tenants = [f"{PLACE}{name}" for name in desk.tenants().declared]
    return everywhere + sorted(place for place in (*tenants, *desk.collections()) if person.may("admin", place))


def people_rows(desk: Desk, person: Person) -> list[PersonRow]:
    """Everybody for an admin of everything; for others, whoever has a role where they are admin."""
    with desk.stores.state.read() as connection:
        accounts = people.everyone(connection)
        known = _PeopleSnapshot.read(connection, desk, person)
    rows = [known.row(account) for account in accounts]
    return [row for row in rows if known.all_seen or row.roles]


def person_row(desk: Desk, person: Person, name: str) -> PersonRow:
    found = next((row for row in people_rows(desk, person) if row.name == name), None)
    if found is None:
        raise NotSeen(f"person '{name}'")
    return found


def group_rows(desk: Desk, person: Person) -> list[GroupRow]:
    """Groups that have members or roles; for an admin of few collections, those with roles there."""
    with desk.stores.state.read() as connection:
        accounts = people.everyone(connection)
        known = _PeopleSnapshot.read(connection, desk, person)
    names = {holder.removeprefix(GROUP) for holder in known.grants if holder.startswith(GROUP)}
    names |= {group for account in accounts for group in account.groups}
    rows = [
        GroupRow(
            name=name,
            roles=known.given(f"{GROUP}{name}", None),
            members=[account.name for account in accounts if name in account.groups],
        )
        for name in sorted(names)
    ]
    return [row for row in rows if known.all_seen or row.roles]


@dataclass(frozen=True, kw_only=True)
class _PeopleSnapshot:
    """What the rows are made of, at one moment, and for whom."""

    reader: Person
    grants: Mapping[str, Mapping[str, Role]]
    open_sessions: Mapping[str, Sequence[Session]]
    ways: SignInSettings

    @classmethod
    def read(cls, connection: sa.Connection, desk: Desk, reader: Person) -> "_PeopleSnapshot":
        if not is_admin(reader):
            raise NotSeen("page")
        ways, found = desk.settings.sign_in, dict[str, list[Session]]()
        for session in sessions.of(connection):
            if sessions.lasts(session, desk.settings.sessions) and sessions.admits(session, ways):
                found.setdefault(session.person, []).append(session)
        return cls(reader=reader, grants=people.grants(connection), open_sessions=found, ways=ways)

    @property
    def all_seen(self) -> bool:
        return self.reader.may("admin", EVERYWHERE)

    def given(self, holder: str, group: str | None) -> list[GivenRole]:
        """Of what a holder was given, what this reader sees: a role in all collections reaches theirs, too."""
        return [
            GivenRole(collection=place, role=role, group=group, may_take=self.reader.may("admin", place))
            for place, role in self.grants.get(holder, {}).items()
            if self.all_seen or place == EVERYWHERE or self._reaches(place)
        ]

    def _reaches(self, place: str) -> bool:
        """Whether a role there is one in what this reader administers."""
        of_tenant = [name for name, tenant in self.reader.tenant_of.items() if place == f"{PLACE}{tenant}"]
        return any(self.reader.may("admin", each) for each in (place, *of_tenant))

    def row(self, account: PersonAccount) -> PersonRow:
        signed_in = self.open_sessions.get(account.name, ())
        told = {group for session in signed_in for group in session.groups} - set(account.groups)
        groups = self._seen(account.groups)
        told_groups = self._seen(told)
        roles = self.given(account.name, None)
        for group in sorted({*groups, *told_groups}):
            roles += self.given(f"{GROUP}{group}", group)
        return PersonRow(
            name=account.name,
            email=account.email,
            roles=sorted(roles, key=lambda given: (given.collection, given.group or "")),
            groups=groups,
            told_groups=told_groups,
            disabled_at=account.disabled_at,
            signs_in_by=self._ways(account),
            sessions=len(signed_in) if self.all_seen else None,
            seen_at=max((session.seen_at for session in signed_in), default=None) if self.all_seen else None,
        )

    def _seen(self, groups: Iterable[str]) -> list[str]:
        return sorted(group for group in groups if self.all_seen or self.given(f"{GROUP}{group}", group))

    def _ways(self, account: PersonAccount) -> list[str]:
        ways = self.ways
        found = ["password"] if ways.local and account.has_password else []
        found += [ways.oidc.name] if ways.oidc else []
        return found + (["proxy"] if ways.proxy else [])
