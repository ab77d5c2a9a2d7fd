"""What the API server keeps: objects as JSON, one version number for all of them, and what changed lately."""

import copy
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubelet.kinds import ResourceKind
from kubelet.refusals import already_exists, conflict, not_found, too_old

Object = dict[str, Any]
KEPT_CHANGES = 2_000


@dataclass(frozen=True, kw_only=True)
class Change:
    version: int
    event: str
    """ADDED, MODIFIED or DELETED."""
    kind: ResourceKind
    object: Object


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which objects of a kind: `fields` as `metadata.name=x`, `labels` as `a=b,c in (d, e),!f`."""

    kind: ResourceKind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    def matches(self, found: Object) -> bool:
        metadata = found["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        labels = metadata.get("labels") or {}
        return all(_field_matches(found, term) for term in self.fields.split(",") if term) and all(
            _label_matches(labels, term) for term in _terms(self.labels)
        )


class ObjectStore:
    """Every reading is a copy: what a caller changes is not changed here."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self.version = 1
        self.changed = threading.Condition(threading.RLock())

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Object:
        with self.changed:
            found = self._objects.get((kind.plural, namespace, name))
            if found is None:
                raise not_found(kind, name)
            return copy.deepcopy(found)

    def has(self, kind: ResourceKind, namespace: str, name: str) -> bool:
        with self.changed:
            return (kind.plural, namespace, name) in self._objects

    def all(self, selection: Selection) -> list[Object]:
        with self.changed:
            return [
                copy.deepcopy(found)
                for (plural, _, _), found in sorted(self._objects.items())
                if plural == selection.kind.plural and selection.matches(found)
            ]

    def add(self, kind: ResourceKind, namespace: str, new: Object, check: Callable[[], None] = lambda: None) -> Object:
        """`check` sees the store as it is when the object enters it: two pods cannot take the rest of a quota."""
        with self.changed:
            metadata = new["metadata"]
            key = (kind.plural, namespace, metadata["name"])
            if key in self._objects:
                raise already_exists(kind, metadata["name"])
            check()
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
            if kind.namespaced:
                metadata["namespace"] = namespace
            return self._put(key, kind, new, "ADDED")

    def replace(self, kind: ResourceKind, namespace: str, new: Object) -> Object:
        """Refused where the caller read an earlier version than there is."""
        with self.changed:
            name = new["metadata"]["name"]
            before = self.get(kind, namespace, name)
            if (
                new["metadata"].get("resourceVersion", before["metadata"]["resourceVersion"])
                != (before["metadata"]["resourceVersion"])
            ):
                raise conflict(kind, name)
            if new == before:
                return before
            return self._put((kind.plural, namespace, name), kind, new, "MODIFIED")

    def change(self, kind: ResourceKind, namespace: str, name: str, edit: Callable[[Object], None]) -> Object:
        with self.changed:
            found = self.get(kind, namespace, name)
            edit(found)
            return self.replace(kind, namespace, found)

    def remove(self, kind: ResourceKind, namespace: str, name: str) -> Object:
        with self.changed:
            found = self.get(kind, namespace, name)
            del self._objects[kind.plural, namespace, name]
            self._note(kind, found, "DELETED")
            return found

    def changes_after(self, version: int, selection: Selection) -> list[Change]:
        """Of one kind, those that a watcher has not seen; refused where they are no longer kept."""
        with self.changed:
            if len(self._changes) == KEPT_CHANGES and self._changes[0].version > version + 1:
                raise too_old(version)
            return [
                change
                for change in self._changes
                if change.version > version and change.kind == selection.kind and selection.matches(change.object)
            ]

    def forget_changes(self) -> None:
        """As a server whose history was compacted."""
        with self.changed:
            for _ in range(KEPT_CHANGES):
                self.version += 1
                self._changes.append(Change(version=self.version, event="MODIFIED", kind=_NO_KIND, object={}))
            self.changed.notify_all()

    def dependents_of(self, uid: str) -> Iterable[tuple[ResourceKind, Object]]:
        from kubelet.kinds import BY_PLURAL

        with self.changed:
            return [
                (BY_PLURAL[plural], copy.deepcopy(found))
                for (plural, _, _), found in self._objects.items()
                if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences") or ())
            ]

    def _put(self, key: tuple[str, str, str], kind: ResourceKind, new: Object, event: str) -> Object:
        kept = copy.deepcopy(new)
        self._objects[key] = kept
        self._note(kind, kept, event)
        return copy.deepcopy(kept)

    def _note(self, kind: ResourceKind, found: Object, event: str) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        self._changes.append(Change(version=self.version, event=event, kind=kind, object=copy.deepcopy(found)))
        self.changed.notify_all()


_NO_KIND = ResourceKind(group="", version="", plural="", kind="")


def _field_matches(found: Object, term: str) -> bool:
    path, _, wanted = term.partition("!=" if "!=" in term else "=")
    value: Any = found
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, Mapping) else ""
    return (str(value) == wanted.lstrip("=")) != ("!=" in term)


def _terms(selector: str) -> Iterable[str]:
    depth, term = 0, ""
    for letter in selector + ",":
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            if term.strip():
                yield term.strip()
            term = ""
        else:
            term += letter


def _label_matches(labels: Mapping[str, str], term: str) -> bool:
    for operator, wanted_in in ((" notin ", False), (" in ", True)):
        if operator in term:
            name, _, values = term.partition(operator)
            listed = {value.strip() for value in values.strip(" ()").split(",")}
            return (labels.get(name.strip()) in listed) == wanted_in
    if "!=" in term:
        name, _, value = term.partition("!=")
        return labels.get(name) != value
    if "=" in term:
        name, _, value = term.partition("=")
        return labels.get(name) == value.lstrip("=")
    return (term.lstrip("!") in labels) != term.startswith("!")
