"""The cookies of the desk: no script reads them, no other site sends them with a form, and no other host sets them."""

from dataclasses import dataclass

from starlette.responses import Response


@dataclass(frozen=True)
class Cookies:
    secure: bool
    """The desk is reached by https: the names then begin with `__Host-`, which browsers hold to this one host."""

    @property
    def session(self) -> str:
        return self._named("desk")

    @property
    def visit(self) -> str:
        """A random value for browsers without a session, against forged sign-ins."""
        return self._named("desk-visit")

    @property
    def flow(self) -> str:
        """What a sign-in with a provider has to remember until they come back."""
        return self._named("desk-flow")

    def _named(self, name: str) -> str:
        return f"__Host-{name}" if self.secure else name

    def set(self, response: Response, name: str, value: str, max_age_s: int | None = None) -> None:
        response.set_cookie(name, value, max_age_s, path="/", secure=self.secure, httponly=True, samesite="lax")

    def drop(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self.secure, httponly=True, samesite="lax")
