"""Who is known, and what each may do in which collection. How somebody proves who they are is `desk/` and `passwords`.

Names are kept in lower case: `Ann` and `ann` are one person, and cannot approve twice.
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.tenants import PLACE
from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.settings import GROUP
from ai_assets.signoff import audit, authority
from ai_assets.signoff.audit import SYSTEM as SYSTEM
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.authority import EVERYWHERE as EVERYWHERE
from ai_assets.signoff.authority import ROLES as ROLES
from ai_assets.signoff.authority import Role as Role
from ai_assets.signoff.errors import PersonNameInvalid, PersonUnknown, RoleUnknown
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now, upsert

Standing = Literal["unknown", "known", "disabled"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,119}")


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who proved who they are."""

    name: str
    email: str | None = None
    groups: frozenset[str] = frozenset()
    roles: Mapping[str, Role] = field(default_factory=dict)
    """By place: a collection, `tenant:NAME`, or '*' for all; from their own grants and those of their groups."""
    tenant_of: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By collection, where tenants are declared; without it a role in a tenant reaches no collection."""

    def role_in(self, place: str) -> Role | None:
        tenant = self.tenant_of.get(place)
        places = (place, EVERYWHERE, *([] if tenant is None else [f"{PLACE}{tenant}"]))
        return max((self.roles[each] for each in places if each in self.roles), key=ROLES.index, default=None)

    def recorded_rights(self, collection: str) -> dict[str, Json]:
        """What a record of theirs about the collection says, so that their role can be seen from the chain alone."""
        groups: list[Json] = [*sorted(self.groups)]
        tenant = self.tenant_of.get(collection)
        of_tenant = tenant is not None and f"{PLACE}{tenant}" in self.roles
        return {"groups": groups, "tenant": tenant} if of_tenant else {"groups": groups}

    def may(self, role: Role, collection: str) -> bool:
        """Whether they have at least that role there."""
        found = self.role_in(collection)
        return found is not None and ROLES.index(found) >= ROLES.index(role)


@dataclass(frozen=True, kw_only=True)
class PersonAccount:
    """A known person, as an administrator sees them."""

    name: str
    email: str | None
    has_password: bool
    disabled_at: str | None
    created_at: str
    roles: Mapping[str, Role]
    groups: tuple[str, ...]


def known_as(name: str) -> str:
    """The name as it is kept."""
    found = name.strip().casefold()
    if not _NAME.fullmatch(found) or found == SYSTEM:
        raise PersonNameInvalid(name)
    return found


def role_named(text: str) -> Role:
    found = next((role for role in ROLES if role == text.strip().lower()), None)
    if found is None:
        raise RoleUnknown(text[:40], nearest(text, list(ROLES)))
    return found


def standing(connection: sa.Connection, name: str) -> Standing:
    query = sa.text("SELECT disabled_at FROM people WHERE name = :name")
    row = connection.execute(query, {"name": name}).one_or_none()
    return "unknown" if row is None else "known" if row.disabled_at is None else "disabled"


def groups_of(connection: sa.Connection, name: str) -> frozenset[str]:
    """Those that they were put into here."""
    query = sa.text("SELECT group_name FROM group_members WHERE person = :name")
    return frozenset(connection.execute(query, {"name": name}).scalars())


def find(connection: sa.Connection, name: str, told_groups: Iterable[str] = ()) -> Person | None:
    """The person with their rights as they are now; None for whom nobody knows, or who is disabled."""
    row = connection.execute(
        sa.text("SELECT email, disabled_at FROM people WHERE name = :name"), {"name": name}
    ).one_or_none()
    if row is None or row.disabled_at is not None:
        return None
    own = groups_of(connection, name)
    groups = own | frozenset(told_groups)
    holders = {name, *(f"{GROUP}{group}" for group in groups)}
    given = _grants(connection, holders)
    _hold(authority.of(connection), name, own, given, holders)
    roles = _highest((collection, role) for (_, collection), role in given.items())
    return Person(name=name, email=row.email, groups=groups, roles=roles)


def _hold(
    recorded: authority.Authority,
    name: str,
    own: frozenset[str],
    given: Mapping[tuple[str, str], Role],
    holders: Container[str],
) -> None:
    """Raises `AuditBroken` unless the signed chain tells the same of this person as the tables do."""
    known = recorded.people.get(name)
    if known is None or not known.enabled:
        raise AuditBroken(f"person {name}", f"the table has them, and the chain says {'disabled' if known else 'none'}")
    recorded.require_groups({(name, group) for group in own}, {name})
    recorded.require_roles(given, holders)


def _grants(connection: sa.Connection, holders: Iterable[str]) -> dict[tuple[str, str], Role]:
    """By holder and collection."""
    query = sa.text("SELECT holder, collection, role FROM grants WHERE holder IN :holders").bindparams(
        sa.bindparam("holders", type_=sa.Text, expanding=True)
    )
    rows = connection.execute(query, {"holders": sorted(holders)})
    return {(row.holder, row.collection): row.role for row in rows}


def _highest(given: Iterable[tuple[str, Role]]) -> dict[str, Role]:
    found: dict[str, Role] = {}
    for collection, role in given:
        found[collection] = max(found.get(collection, "viewer"), role, key=ROLES.index)
    return found


def grants(connection: sa.Connection) -> dict[str, dict[str, Role]]:
    """What was given, by holder and collection; the names of groups begin with 'group:'."""
    found: dict[str, dict[str, Role]] = {}
    for row in connection.execute(sa.text("SELECT * FROM grants ORDER BY holder, collection")):
        found.setdefault(row.holder, {})[row.collection] = row.role
    return found


def everyone(connection: sa.Connection) -> list[PersonAccount]:
    rows = connection.execute(sa.text("SELECT * FROM people ORDER BY name")).all()
    given = grants(connection)
    members: dict[str, list[str]] = {}
    for row in connection.execute(sa.text("SELECT * FROM group_members ORDER BY group_name")):
        members.setdefault(row.person, []).append(row.group_name)
    return [
        PersonAccount(
            name=row.name,
            email=row.email,
            has_password=row.password_hash is not None,
            disabled_at=row.disabled_at,
            created_at=row.created_at,
            roles=_highest(
                grant
                for holder in (row.name, *(f"{GROUP}{group}" for group in members.get(row.name, ())))
                for grant in given.get(holder, {}).items()
            ),
            groups=tuple(members.get(row.name, ())),
        )
        for row in rows
    ]


def anybody(connection: sa.Connection) -> bool:
    return connection.execute(sa.text("SELECT 1 FROM people LIMIT 1")).one_or_none() is not None


def add(connection: sa.Connection, name: str, *, email: str | None, password_hash: str | None, by: str) -> str:
    """Make somebody known, or known again: a disabled person is enabled. Rights are given apart."""
    name = known_as(name)
    before = connection.execute(sa.text("SELECT * FROM people WHERE name = :name"), {"name": name}).one_or_none()
    values = {
        "email": email or (before.email if before else None),
        "password_hash": password_hash or (before.password_hash if before else None),
        "created_at": before.created_at if before else now(),
        "disabled_at": None,
    }
    upsert(connection, "people", {"name": name}, values)
    audit.append(
        connection, by, "person added", {"person": name, "password_digest": authority.password_digest(password_hash)}
    )
    return name


def set_password_hash(connection: sa.Connection, name: str, password_hash: str, *, by: str) -> None:
    """Another password, and their sessions end. Who is disabled stays so."""
    require(connection, name)
    connection.execute(sa.text("DELETE FROM sessions WHERE person = :name"), {"name": name})
    keep_hash(connection, name, password_hash, by=by)


def keep_hash(connection: sa.Connection, name: str, password_hash: str, *, by: str) -> None:
    """What is kept of a password, and the record that says which."""
    update = sa.text("UPDATE people SET password_hash = :hash WHERE name = :name")
    connection.execute(update, {"hash": password_hash, "name": name})
    subject = {"person": name, "password_digest": authority.password_digest(password_hash)}
    audit.append(connection, by, "password set", subject)


def disable(connection: sa.Connection, name: str, *, by: str) -> None:
    """They cannot sign in any more, and their sessions end. What they signed stays signed."""
    require(connection, name)
    connection.execute(
        sa.text("UPDATE people SET disabled_at = :at WHERE name = :name AND disabled_at IS NULL"),
        {"at": now(), "name": name},
    )
    connection.execute(sa.text("DELETE FROM sessions WHERE person = :name"), {"name": name})
    audit.append(connection, by, "person disabled", {"person": name})


def give(connection: sa.Connection, holder: str, role: Role, collection: str, *, by: str) -> None:
    """A role in one collection, or '*' for all; in place of the one they had there."""
    if not holder.startswith(GROUP):
        require(connection, holder)
    upsert(connection, "grants", {"holder": holder, "collection": collection}, {"role": role})
    audit.append(connection, by, "role given", {"person": holder, "role": role, "in": collection})


def take(connection: sa.Connection, holder: str, collection: str, *, by: str) -> bool:
    """Take the role back; False where there was none."""
    query = sa.text("DELETE FROM grants WHERE holder = :holder AND collection = :collection")
    done = connection.execute(query, {"holder": holder, "collection": collection}).rowcount > 0
    if done:
        audit.append(connection, by, "role taken", {"person": holder, "in": collection})
    return done


def join(connection: sa.Connection, name: str, group: str, *, by: str) -> None:
    require(connection, name)
    upsert(connection, "group_members", {"group_name": group, "person": name}, {})
    audit.append(connection, by, "group joined", {"person": name, "group": group})


def leave(connection: sa.Connection, name: str, group: str, *, by: str) -> bool:
    query = sa.text("DELETE FROM group_members WHERE group_name = :group AND person = :name")
    done = connection.execute(query, {"group": group, "name": name}).rowcount > 0
    if done:
        audit.append(connection, by, "group left", {"person": name, "group": group})
    return done


def require(connection: sa.Connection, name: str) -> None:
    if standing(connection, name) == "unknown":
        query = sa.text("SELECT name FROM people ORDER BY name")
        raise PersonUnknown(name, list(connection.execute(query).scalars()))
