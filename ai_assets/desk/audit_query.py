"""The audit chain as a person may see it: in words for pages, and as lines that prove themselves for export."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.base.tenants import PLACE
from ai_assets.costs.limits import change_in_words
from ai_assets.desk.access import NotSeen, known_view
from ai_assets.desk.context import Desk
from ai_assets.desk.views import HistoryEntry
from ai_assets.signoff import audit, verification
from ai_assets.signoff.audit import Action, Record
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.signoff.timestamps import moment
from ai_assets.storage.digest import Json
from ai_assets.storage.state import storable

ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """What is sought in the chain, as it was typed. What is empty or None leaves nothing out."""

    collection: str | None = None
    actor: str | None = None
    action: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def empty(self) -> bool:
        return not any(vars(self).values())

    def select(
        self,
        connection: sa.Connection,
        names: Sequence[str] | None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """The newest first, of these collections."""
        return audit.select(
            connection,
            collections=names,
            actor=storable(self.actor) or None,
            actions=[cast(Action, known_view("action", self.action, ACTIONS))] if self.action else None,
            since=moment(self.since) if self.since else None,
            until=moment(self.until, end=True) if self.until else None,
            before=before,
            limit=limit,
        )


ALL = AuditFilter()


def audit_page(
    desk: Desk, person: Person, sought: AuditFilter = ALL, *, before: int | None = None, limit: int = 100
) -> tuple[list[HistoryEntry], int | None]:
    """The newest first, and where the next page begins. Records about people are for who may see everything."""
    with desk.stores.state.read() as connection:
        names = _collections(desk, person, sought.collection)
        found = sought.select(connection, names, before=before, limit=limit + 1)
    return [entry_of(record) for record in found[:limit]], found[limit - 1].seq if len(found) > limit else None


def audit_lines(desk: Desk, person: Person, sought: AuditFilter = ALL) -> Iterator[str]:
    """JSON lines. Without filters, for whoever may see everything: the whole chain, which proves itself offline."""
    everything = person.may("viewer", EVERYWHERE)
    with desk.stores.state.read() as connection:
        if everything and sought.empty:
            yield from verification.export(connection)
            return
        names = _collections(desk, person, sought.collection)
        yield from verification.export(connection, sought.select(connection, names)[::-1])


def _collections(desk: Desk, person: Person, asked: str | None) -> list[str] | None:
    """Whose records are shown; None means all there are, those about people too.

    A collection that is not declared any more is still in the chain, for whoever may see everything.
    """
    everything = person.may("viewer", EVERYWHERE)
    if asked:
        if not everything and asked not in desk.seen_by(person):
            raise NotSeen(f"collection '{asked}'")
        return [storable(asked) or ""]
    return None if everything else sorted(desk.seen_by(person))


def entry_of(record: Record) -> HistoryEntry:
    names = {name: _text(record.subject.get(name)) or None for name in ("collection", "partition", "request_id")}
    return HistoryEntry(
        seq=record.seq, at=record.recorded_at, actor=record.actor, action=record.action, text=_words(record), **names
    )


def _words(record: Record) -> str:
    """What a record says beyond who did what to which request."""
    found = _Subject(record.subject)
    match record.action:
        case "requested":
            return f"candidate {found['digest'][:12]}"
        case "approved" if record.subject.get("complete") is False:
            return _joined("further approvals are needed", found["reason"])
        case "waived":
            return _joined(f"gate {found['gate']}", found["reason"])
        case "noted":
            return f"{found['kind']} on {found['document']}"
        case "corrected":
            changed = f"'{found['label']}' in place of '{found['was']}'" if found["label"] else "correction taken back"
            return _joined(f"{found['document']}: {found['stage']}: {changed}", found["reason"])
        case "assigned" | "unassigned":
            return "" if found["assignee"] == record.actor else f"{found['assignee']}"
        case "labelled":
            about = f"{found['document']}: {found['stage']}: {found['label'] or found['answer']}"
            return about if found["author"] == record.actor else f"{about} (of {found['author']})"
        case "stopped":
            return f"gate {found['gate']}: {found['verdict']}"
        case "rated":
            said = "taken back" if found["rating"] == "null" else found["rating"]
            return f"{found['document']}: {found['stage']}: {said}"
        case "hold reminded" | "hold escalated":
            return f"{plural(int(found['documents']), 'document')} of {found['stage']}"
        case "hold decided":
            said = f"{found['decision']} {found['label']}" if found["label"] else found["decision"]
            return _joined(f"{found['document']}: {found['stage']}: {said}", found["reason"])
        case "published":
            return f"release {found['release']}: {found['partitions']}"
        case "forgotten":
            return _joined(", ".join(_names(record.subject["documents"])), found["reason"])
        case "rolled back":
            return _joined(f"to release {found['release']} from release {found['from']}", found["reason"])
        case "target rebuilt":
            return f"{found['target']} from release {found['release']}"
        case "role given":
            return f"{found['person']}: {found['role']} in {_where(found['in'])}"
        case "role taken":
            return f"{found['person']}: in {_where(found['in'])}"
        case "group joined" | "group left":
            return f"{found['person']}: group {found['group']}"
        case "resolved":
            return _joined(f"attempt {found['attempt']} of call {found['call'][:12]}", found["note"])
        case "retry asked":
            number = record.subject.get("documents")
            several = plural(number, "document") if isinstance(number, int) and number else "the whole partition"
            about = found["document"] or several
            return _joined(f"{about}: {found['assets']}", found["reason"])
        case "reconciled":
            return f"with {found['file']} (sha256 {found['file_digest'][:12]}): {found['days']}"
        case "budget set":
            return _joined(f"{found['name']}: {change_in_words(record.subject)}", found["reason"])
        case "canary accepted":
            return _joined(found["facts"], found["reason"])
    return found["reason"] or found["person"]


class _Subject:
    """What a record is about, as text; empty where it does not say."""

    def __init__(self, found: Mapping[str, Json]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> str:
        return _text(self._found.get(name))


def _text(value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        shown = ", ".join(_text(item) for item in value[:3])
        return shown if len(value) <= 3 else f"{shown} and {len(value) - 3} more"
    return str(value)


def _joined(said: str, reason: str) -> str:
    return f"{said}: {reason}" if reason else said


def _where(collection: str) -> str:
    return "all collections" if collection == EVERYWHERE else collection.replace(PLACE, "tenant ", 1)


def _names(found: Json) -> list[str]:
    return sorted(found) if isinstance(found, Mapping) else []
