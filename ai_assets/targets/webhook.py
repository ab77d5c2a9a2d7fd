"""Telling somebody's program which release is live: a POST that says the same however often it comes."""

import hashlib
import hmac
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ai_assets.base.home import variable
from ai_assets.base.masking import masked
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.targets.base import Receipt, Target, TargetRelease
from ai_assets.targets.errors import TargetAddressMissing, WebhookRefused


class Webhook(Target):
    """What it takes with a 2xx it has. It may come twice after a kill, with the same `Idempotency-Key`."""

    def __init__(self, url: str, secret_variable: str | None = None, timeout_s: float = 30.0) -> None:
        self._url = url
        self._secret_variable = secret_variable
        self._timeout_s = timeout_s
        self._taken: Receipt | None = None

    def write(self, release: TargetRelease) -> Receipt:
        """Nothing is sent: it is told of what is live, and not of what may become so."""
        return {
            "collection": release.collection, "release": release.number, "digest": release.digest,
            "partitions": dict(release.partitions),
        }  # fmt: skip

    def rebuild(self, release: TargetRelease, attempt: str) -> Receipt:
        """Told once more, with another key: who takes it shall not think that it was told already."""
        return {**self.write(release), "rebuild": attempt}

    def point(self, receipt: Receipt) -> None:
        body = canonical_json({"event": "live", **receipt}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": digest(dict(receipt))}
        if self._secret_variable is not None:
            secret = variable(self._secret_variable)
            if secret is None:
                raise TargetAddressMissing(self._secret_variable, "the secret that both sides know")
            headers["X-Signature-256"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with _OPENER.open(request, timeout=self._timeout_s) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            raise WebhookRefused(self._place, f"it answered {error.code}") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise WebhookRefused(self._place, masked(str(reason) or type(reason).__name__)) from error
        self._taken = receipt

    def read(self) -> Receipt | None:
        return self._taken

    @property
    def _place(self) -> str:
        """Without a query or a user, where people put tokens."""
        parts = urlsplit(self._url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A release is told to who was declared, and to nobody else."""

    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
