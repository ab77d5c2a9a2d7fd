"""Who asks, by bearer token, and what RBAC lets them do."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from kubelet.kinds import BY_PLURAL
from kubelet.refusals import ApiRefused
from kubelet.store import Object, ObjectStore, Selection

ADMINISTRATOR = "system:admin"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """`verb` on `plural` (with a subresource, `pods/log`) of a group, in a namespace or in none."""

    verb: str
    group: str
    plural: str
    namespace: str

    def allowed_by(self, rule: Object) -> bool:
        return all(
            wanted in rule.get(part, ()) or "*" in rule.get(part, ())
            for part, wanted in (("verbs", self.verb), ("apiGroups", self.group), ("resources", self.plural))
        )


@dataclass
class AccessControl:
    store: ObjectStore
    users: dict[str, str] = field(default_factory=dict)

    def token_of(self, user: str) -> str:
        token = secrets.token_urlsafe(24)
        self.users[token] = user
        return token

    def user_of(self, header: str | None) -> str:
        scheme, _, token = (header or "").partition(" ")
        user = self.users.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiRefused(401, "Unauthorized", "Unauthorized")
        return user

    def check(self, user: str, attempt: Attempt) -> None:
        if user != ADMINISTRATOR and not any(attempt.allowed_by(rule) for rule in self._rules(user, attempt.namespace)):
            where = f' in the namespace "{attempt.namespace}"' if attempt.namespace else " at the cluster scope"
            kind = f"{attempt.plural}.{attempt.group}" if attempt.group else attempt.plural
            raise ApiRefused(
                403,
                "Forbidden",
                f'{kind} is forbidden: User "{user}" cannot {attempt.verb} resource "{attempt.plural}" in API group'
                f' "{attempt.group}"{where}',
            )

    def _rules(self, user: str, namespace: str) -> Iterator[Object]:
        bindings = [("clusterrolebindings", None)]
        if namespace:
            bindings.append(("rolebindings", namespace))
        for plural, where in bindings:
            for binding in self.store.all(Selection(kind=BY_PLURAL[plural], namespace=where)):
                if any(_is(subject, user, namespace) for subject in binding.get("subjects") or ()):
                    yield from self._rules_of(binding["roleRef"], namespace)

    def _rules_of(self, reference: Object, namespace: str) -> list[Object]:
        kind = BY_PLURAL["roles" if reference["kind"] == "Role" else "clusterroles"]
        where = namespace if kind.namespaced else ""
        return self.store.get(kind, where, reference["name"])["rules"] if self.store.has(
            kind, where, reference["name"]) else []  # fmt: skip


def service_account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _is(subject: Object, user: str, namespace: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        return service_account(subject.get("namespace", namespace), subject["name"]) == user
    return bool(subject["kind"] == "User" and subject["name"] == user)
