"""What the API server refuses, as the `Status` object that it answers with."""

from typing import Any

from kubelet.kinds import ResourceKind


class ApiRefused(Exception):
    """Answered with its code, reason and message, as kube-apiserver words them."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message

    @property
    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        }  # fmt: skip


def not_found(kind: ResourceKind, name: str) -> ApiRefused:
    return ApiRefused(404, "NotFound", f'{kind.qualified} "{name}" not found')


def already_exists(kind: ResourceKind, name: str) -> ApiRefused:
    return ApiRefused(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists')


def conflict(kind: ResourceKind, name: str) -> ApiRefused:
    return ApiRefused(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {kind.qualified} "{name}": the object has been modified; please apply your'
        " changes to the latest version and try again",
    )


def invalid(kind: ResourceKind, name: str, field: str, said: str) -> ApiRefused:
    return ApiRefused(422, "Invalid", f'{kind.qualified_kind} "{name}" is invalid: {field}: {said}')


def forbidden(kind: ResourceKind, name: str, why: str) -> ApiRefused:
    return ApiRefused(403, "Forbidden", f'{kind.qualified} "{name}" is forbidden: {why}')


def malformed(kind: ResourceKind, why: str) -> ApiRefused:
    return ApiRefused(
        400, "BadRequest", f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'
    )


def too_old(version: int) -> ApiRefused:
    return ApiRefused(410, "Expired", f"too old resource version: {version}")
