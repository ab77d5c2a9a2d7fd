"""Checkpoints as C2SP signed notes: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.

A note is a few lines of text: origin, number of records, root, an empty line, and who signed.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from ai_assets.signoff import keys
from ai_assets.signoff.audit_errors import NoteUnreadable, SignatureInvalid

ED25519 = b"\x01"
"""The kind of a key, before its bytes."""
ROOT_BYTES = 32
_NOTE = re.compile(
    r"^(?P<origin>[^\n]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<root>[A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*\n"
    r"(?P<signatures>(?:— [^\n ]+ [A-Za-z0-9+/=]+\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class SignedNote:
    origin: str
    """Names the chain."""
    size: int
    """How many records it stands for."""
    root: bytes
    text: str
    """All of it, with its signatures."""

    @classmethod
    def make(cls, origin: str, size: int, root: bytes, public: bytes, sign: Callable[[bytes], bytes]) -> Self:
        body = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(key_hash(origin, public) + sign(body.encode())).decode()
        return cls(origin=origin, size=size, root=root, text=f"{body}\n— {origin} {signature}\n")

    @classmethod
    def read(cls, text: str) -> Self:
        """A text that is one note and nothing else."""
        match = _NOTE.fullmatch(text)
        if match is None:
            raise NoteUnreadable("it is not the text of a checkpoint: origin, number, root, empty line, signature")
        return cls._of(match)

    @classmethod
    def all_in(cls, text: str) -> list[Self]:
        """Every note in a text, such as a file to which notes are appended, or a mail that holds one."""
        unix = text.replace("\r\n", "\n")
        matches = _NOTE.finditer(unix if unix.endswith("\n") else f"{unix}\n")
        return [cls._of(match) for match in matches if _is_base64(match["root"])]

    @classmethod
    def _of(cls, match: re.Match[str]) -> Self:
        try:
            root = base64.b64decode(match["root"])
        except ValueError as error:
            raise NoteUnreadable(f"its root is not base64: {error}") from error
        return cls(origin=match["origin"], size=int(match["size"]), root=root, text=match[0])

    @property
    def body(self) -> bytes:
        """What is signed."""
        return (self.text.rpartition("\n\n")[0] + "\n").encode()

    def require_signed(self, publics: Iterable[bytes]) -> bytes:
        """The one of these keys that signed it; raises `SignatureInvalid` where none did."""
        by_hash = {key_hash(self.origin, public): public for public in publics}
        strangers = []
        for name, signature in self._signatures():
            public = by_hash.get(signature[:4])
            if name != self.origin or public is None:
                strangers.append(f"{name}+{signature[:4].hex()}")
                continue
            keys.check(public, self.body, base64.b64encode(signature[4:]).decode())
            return public
        raise SignatureInvalid(f"it is signed by {', '.join(strangers)}, and nobody vouches for that key")

    def _signatures(self) -> Iterator[tuple[str, bytes]]:
        for line in filter(None, self.text.rpartition("\n\n")[2].split("\n")):  # a name may hold other line breaks
            parts = line.split(" ")
            if len(parts) != 3:
                raise SignatureInvalid("a line of its signatures is none")
            _, name, signature = parts
            try:
                raw = base64.b64decode(signature)
            except ValueError:
                raw = b""
            if base64.b64encode(raw).decode() != signature:
                raise SignatureInvalid("its signature is not base64 in its one form")
            yield name, raw


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text)
    except ValueError:
        return False
    return True


def key_hash(name: str, public: bytes) -> bytes:
    """Four bytes that say which key a signature is of."""
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """A public key as other tools take it: name, hash and key in one word."""
    return f"{name}+{key_hash(name, public).hex()}+{base64.b64encode(ED25519 + public).decode()}"
