"""The part of the error tree that belongs to the rehearsal provider; it hangs below `ai_assets/base/errors.py`.

UserError
  SettingUnknown   a setting of the provider that does not exist
  SettingWrong     a value that a setting cannot have
  FaultUnknown     a kind of fault that does not exist
  ShareWrong       a share of faults that is no number from 0 to 1, or shares that are more than 1 together
  ScriptWrong      a rule of a script cannot be used: where it stands and why
  PortTaken        the address cannot be listened on
AiAssetsError
  Refusal          a request that is answered with an error, in the words of the OpenAI protocol
"""

from collections.abc import Iterable, Mapping

from ai_assets.base.errors import AiAssetsError, UserError
from ai_assets.base.yaml_settings import nearest


def _nearest(found: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return nearest(found, names, f"known are: {', '.join(names)}.")


class SettingUnknown(UserError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"The rehearsal provider has no setting '{name}'{_nearest(name, known)}")


class SettingWrong(UserError):
    def __init__(self, name: str, found: object, problem: str) -> None:
        super().__init__(f"Setting '{name}' of the rehearsal provider is {found!r}: {problem}.")


class FaultUnknown(UserError):
    def __init__(self, kind: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no fault '{kind}'{_nearest(kind, known)}")


class ShareWrong(UserError):
    def __init__(self, kind: str, found: object) -> None:
        super().__init__(
            f"The share of fault '{kind}' is {found!r}: give a number from 0 to 1, such as {kind}=0.05; "
            "all shares together are at most 1."
        )


class ScriptWrong(UserError):
    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            f'{where}: {problem} A rule looks like this: {{"match": "words of the request", "fault": "server_error", '
            '"times": 2}'
        )


class PortTaken(UserError):
    def __init__(self, host: str, port: int, found: str) -> None:
        super().__init__(
            f"The rehearsal provider cannot listen on {host}:{port}: {found}. Choose another with --port; 0 takes a "
            "free one."
        )


class Refusal(AiAssetsError):
    """What the client gets instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        page: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.page = f"<html><head><title>{status} {message}</title></head></html>" if page else None
        """What a proxy says in place of the protocol's error object."""
        self.headers = dict(headers or {})
        self.body: dict[str, object] = {"error": {"message": message, "type": kind, "param": param, "code": code}}
