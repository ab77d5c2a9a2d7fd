"""What an administrator may do about people at the desk, each with its record in the audit chain.

Their rights are read in the transaction that acts, and whoever acts is an admin afterwards as before: so one is left.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.tenants import PLACE
from ai_assets.collection.settings import GROUP
from ai_assets.desk import sessions
from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.desk.people_query import group_rows, is_admin, people_rows
from ai_assets.signoff import people
from ai_assets.signoff.people import EVERYWHERE, Person

_GROUP_NAME = re.compile(r"[^\s,:\x00-\x1f\x7f][^,\x00-\x1f\x7f]{0,118}")
"""No comma: a proxy divides groups by it."""
_EMAIL = re.compile(r"[^\s@,<>]{1,64}@[^\s@,<>]{1,189}")


class NotForThisAdmin(UserError):
    def __init__(self, what: str) -> None:
        super().__init__(f"Only an admin of every collection can {what}. Nothing was changed.")


class OwnRights(UserError):
    """Nobody locks themselves out, by a slip or otherwise."""

    def __init__(self, would: str) -> None:
        super().__init__(f"You would {would}: ask another admin to do that. Nothing was changed.")


class PersonNotFound(UserError):
    """Not `PersonUnknown`, which names whom an admin of one collection may not see."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Nobody is known here as '{name}'. Nothing was changed.")


class NothingToChange(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"{found}. Nothing was changed.")


class GroupNameInvalid(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name[:60]}' cannot be a group's name: use at most 119 characters, without commas, and no colon first."
        )


class EmailInvalid(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"'{found[:60]}' is no e-mail address. Write it like ann@example.org, or leave it empty.")


class NoOtherWayIn(UserError):
    def __init__(self) -> None:
        super().__init__(
            "Whoever has no password could not sign in: desk.yaml declares neither a proxy nor a provider. "
            "Nothing was changed. An account with a password is made on the command line."
        )


@dataclass(frozen=True, kw_only=True)
class Administrator:
    desk: Desk
    person: Person
    told_groups: frozenset[str] = frozenset()
    """Those that a proxy or provider told of: the store does not know them."""

    def give(self, holder: str, role: str, place: str) -> None:
        """To a person or a group, in place of the role they had there."""
        known = {EVERYWHERE, *self.desk.collections(), *(f"{PLACE}{name}" for name in self.desk.tenants().declared)}
        seen = self._seen_holders()
        what = f"collection '{place}'"
        with self._acting(what, place if place in known else None, "give a role in all of them") as store:
            found = people.role_named(role)
            people.give(store, _holder(store, holder, seen), found, place, by=self.person.name)

    def take(self, holder: str, place: str) -> None:
        with self._acting(f"collection '{place}'", place, "take a role in all of them") as store:
            who = holder.strip()
            who = who if who.startswith(GROUP) else people.known_as(who)
            if not people.take(store, who, place, by=self.person.name):
                raise NothingToChange(f"'{who}' had no role of their own there")

    def join(self, name: str, group: str) -> None:
        with self._acting("group", EVERYWHERE, "put people into groups") as store:
            name, group = _enabled(store, name), group_name(group)
            if group in people.groups_of(store, name):
                raise NothingToChange(f"'{name}' is in '{group}' already")
            people.join(store, name, group, by=self.person.name)

    def leave(self, name: str, group: str) -> None:
        with self._acting("group", EVERYWHERE, "take people out of groups") as store:
            name = people.known_as(name)
            if not people.leave(store, name, group, by=self.person.name):
                raise NothingToChange(f"'{name}' was not put into '{group[:60]}' here")

    def add(self, name: str, email: str) -> None:
        """Somebody whom a proxy or a provider will sign in."""
        with self._acting("person", EVERYWHERE, "add people") as store:
            if not may_add(self.desk):
                raise NoOtherWayIn
            name = people.known_as(name)
            if email and not _EMAIL.fullmatch(email):
                raise EmailInvalid(email)
            if people.standing(store, name) != "unknown":
                raise NothingToChange(f"'{name}' is known already")
            people.add(store, name, email=email or None, password_hash=None, by=self.person.name)

    def disable(self, name: str) -> None:
        with self._acting("person", EVERYWHERE, "disable people") as store:
            name = people.known_as(name)
            if name == self.person.name:
                raise OwnRights("shut yourself out")
            people.disable(store, _enabled(store, name), by=self.person.name)

    def enable(self, name: str) -> None:
        """With the roles and the password they had."""
        with self._acting("person", EVERYWHERE, "enable people") as store:
            name = people.known_as(name)
            standing = people.standing(store, name)
            if standing == "unknown":
                raise PersonNotFound(name)
            if standing == "known":
                raise NothingToChange(f"'{name}' is not disabled")
            people.add(store, name, email=None, password_hash=None, by=self.person.name)

    def end_sessions(self, name: str) -> None:
        with self._acting("person", EVERYWHERE, "end sessions") as store:
            name = people.known_as(name)
            if people.standing(store, name) == "unknown":
                raise PersonNotFound(name)
            if not sessions.end_all(store, name, by=self.person.name):
                raise NothingToChange(f"'{name}' has no open session")

    def _seen_holders(self) -> frozenset[str] | None:
        """To whom they may give roles, where tenants are declared: whoever their page People shows. None: to all.

        What a name of another tenant is answered is what one is answered that nobody has.
        """
        if not self.desk.tenants() or self.person.may("admin", EVERYWHERE) or not is_admin(self.person):
            return None
        names = {row.name for row in people_rows(self.desk, self.person)}
        return frozenset(names | {f"{GROUP}{row.name}" for row in group_rows(self.desk, self.person)})

    @contextlib.contextmanager
    def _acting(self, what: str, place: str | None, to_do: str) -> Iterator[sa.Connection]:
        """A write by somebody who is admin of that place; undone where they would be admin no more.

        A place that is not theirs looks like one that does not exist, which is None.
        """
        with self.desk.stores.state.write() as connection:
            before = self._as_now(connection)
            if before is None or not is_admin(before):
                raise NotSeen("page")
            if place == EVERYWHERE and not before.may("admin", EVERYWHERE):
                raise NotForThisAdmin(to_do)
            if place is None or not before.may("admin", place):
                raise NotSeen(what)
            yield connection
            after = self._as_now(connection)
            for where, role in before.roles.items():
                if role == "admin" and (after is None or after.roles.get(where) != "admin"):
                    said = "all collections" if where == EVERYWHERE else where
                    raise OwnRights(f"lose your own role as admin in {said}")

    def _as_now(self, connection: sa.Connection) -> Person | None:
        found = people.find(connection, self.person.name, self.told_groups)
        return None if found is None else replace(found, tenant_of=self.person.tenant_of)


def may_add(desk: Desk) -> bool:
    """Whether there is a way in for whoever has no password."""
    ways = desk.settings.sign_in
    return bool(ways.proxy or ways.oidc)


def group_name(text: str) -> str:
    name = text.strip().removeprefix(GROUP).strip()
    if not _GROUP_NAME.fullmatch(name):
        raise GroupNameInvalid(name)
    return name


def _holder(connection: sa.Connection, text: str, seen: frozenset[str] | None) -> str:
    if seen is not None:
        text = text.strip() if text.strip().startswith(GROUP) else people.known_as(text)
        if text not in seen:
            raise PersonNotFound(text)
    return f"{GROUP}{group_name(text)}" if text.strip().startswith(GROUP) else _enabled(connection, text)


def _enabled(connection: sa.Connection, text: str) -> str:
    name = people.known_as(text)
    standing = people.standing(connection, name)
    if standing == "unknown":
        raise PersonNotFound(name)
    if standing == "disabled":
        raise NothingToChange(f"'{name}' is disabled")
    return name
