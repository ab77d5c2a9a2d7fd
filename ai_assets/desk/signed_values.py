"""What the desk signs, so that it knows it again in any of its processes. The key is a file of the home folder."""

import base64
import binascii
import contextlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

from ai_assets.base.durable import write_new
from ai_assets.base.home import Home, HomeUnusable
from ai_assets.base.plural import plural

KEY_BYTES = 32


@dataclass(frozen=True)
class Seal:
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, home: Home) -> Self:
        """With the key of this home, which the first who needs it makes."""
        path = home.root / "desk.key"
        try:
            if not path.exists():
                _make(path)
            key = path.read_bytes()
        except OSError as error:
            raise HomeUnusable(home.root, f"{path.name}: {(error.strerror or str(error)).lower()}") from error
        if len(key) != KEY_BYTES:
            found = f"{path.name} holds {plural(len(key), 'byte')} where a key of {KEY_BYTES} should be; remove it"
            raise HomeUnusable(home.root, found)
        return cls(key)

    def token(self, *parts: str) -> str:
        """The same for the same parts; nobody else can make it."""
        return hmac.new(self.key, json.dumps(parts).encode(), sha256).hexdigest()

    def sealed(self, purpose: str, values: dict[str, str]) -> str:
        """Text for a cookie: readable by whoever has it, changed by nobody."""
        text = json.dumps({**values, "at": str(int(time.time()))}).encode()
        body = base64.urlsafe_b64encode(text).decode().rstrip("=")
        return f"{body}.{self.token(purpose, body)}"

    def opened(self, purpose: str, text: str, longest_s: float) -> dict[str, str] | None:
        """What was sealed for that purpose, if it was and is not too old."""
        body, _, token = text.rpartition(".")
        if not text.isascii() or not hmac.compare_digest(token, self.token(purpose, body)):
            return None
        try:
            values: dict[str, str] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (binascii.Error, ValueError):
            return None
        return values if abs(time.time() - int(values["at"])) <= longest_s else None


def _make(path: Path) -> None:
    """At once and once: of several that try, one key remains."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        write_new(draft, secrets.token_bytes(KEY_BYTES), 0o600)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
