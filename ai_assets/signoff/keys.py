"""The keys that sign the audit chain. They are files or variables, never rows: what only knows the state store can
forge nothing.

Two private keys (Ed25519): *recorder*, held by runs and sensors, and *decision*, held by the desk and by the commands
of people. Only what is signed with the second decides anything. `trust.json` beside them is public: which keys to
believe from the start, and which records are older than the keys. Later keys are told of by records (`authority`).
"""

import base64
import binascii
import json
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import sqlalchemy as sa

from ai_assets.base import durable
from ai_assets.base.home import DECISION_KEY_VARIABLE, NO_KEY, RECORDER_KEY_VARIABLE, TRUST_VARIABLE, variable
from ai_assets.signoff.audit_errors import AuditKeyUnusable, KeyNotHeld, KeysMissing, SignatureInvalid
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import KEYS_OPTION

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Kind = Literal["recorder", "decision"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VARIABLES: Mapping[Kind, str] = {"recorder": RECORDER_KEY_VARIABLE, "decision": DECISION_KEY_VARIABLE}
TRUST = "trust.json"
TRUST_FORMAT = 1


@dataclass(frozen=True)
class Signature:
    key_id: str
    signature: str
    """Base64."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What is believed from the start, and is not in the state store."""

    chain: str
    """Names this chain: a record of another one that has the same keys does not pass for one of it."""
    keys: Mapping[Kind, tuple[bytes, ...]]
    """Public keys, 32 bytes each."""
    unsigned: int = 0
    """So many records are older than the keys."""
    unsigned_head: str = ""
    """The hash of the last of them, which stands for all."""

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != TRUST_FORMAT:
                raise AuditKeyUnusable(path, f"it is of format {data['format']}, and this version reads {TRUST_FORMAT}")
            return cls.of(data)
        except OSError as error:
            raise AuditKeyUnusable(path, f"it cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditKeyUnusable(path, f"it is no list of public keys ({error})") from error

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            chain=str(data["chain"]),
            keys={kind: tuple(decoded(text) for text in data[kind]) for kind in KINDS},
            unsigned=int(data["unsigned"]["records"]),
            unsigned_head=str(data["unsigned"]["head"]),
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "format": TRUST_FORMAT,
            "chain": self.chain,
            **{kind: [encoded(key) for key in self.keys[kind]] for kind in KINDS},
            "unsigned": {"records": self.unsigned, "head": self.unsigned_head},
        }


@dataclass(frozen=True)
class Keyring:
    """The private keys that this process holds, and what it believes."""

    trust: Trust
    private: "Mapping[Kind, Ed25519PrivateKey]" = field(repr=False)
    absent: Mapping[Kind, str]
    """Why a key is not held."""

    def holds(self, kind: Kind) -> bool:
        return kind in self.private

    def public(self, kind: Kind) -> bytes:
        return self._held(kind).public_key().public_bytes_raw()

    def key_id(self, kind: Kind) -> str:
        return key_id(self.public(kind))

    def sign(self, kind: Kind, data: bytes) -> Signature:
        return Signature(self.key_id(kind), encoded(self._held(kind).sign(data)))

    def _held(self, kind: Kind) -> "Ed25519PrivateKey":
        if kind not in self.private:
            raise KeyNotHeld(kind, self.absent[kind])
        return self.private[kind]


def key_id(public: bytes) -> str:
    return sha256(public).hexdigest()[:16]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def check(public: bytes, data: bytes, signature: str) -> None:
    """Raises `SignatureInvalid` unless the owner of the key signed the data."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature, validate=True), data)
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise SignatureInvalid("the signature is not of this content") from error


def folder_of(connection: sa.Connection) -> Path:
    folder: Path = connection.get_execution_options()[KEYS_OPTION]
    return folder


def trust_of(connection: sa.Connection) -> Trust | None:
    """What is believed of this store's chain; None where it has no keys yet, and so nothing in it is signed."""
    path = _trust_file(folder_of(connection))
    return _read_trust(path, _stamp(path)) if path.exists() else None


def of(connection: sa.Connection) -> Keyring:
    """The keys for this store. In a new home the first who may decide makes them, in its write transaction."""
    folder = folder_of(connection)
    if not _trust_file(folder).exists():
        _make(folder, connection)
    return _held(folder)


def missing(folder: Path) -> list[str]:
    """What whoever decides needs and has not: the list of keys to believe, or a key that is not withheld on purpose.

    Raises `AuditKeyUnusable` for what is there and cannot be used. No key is made.
    """
    if not _trust_file(folder).exists():
        return [TRUST]
    held = _held(folder)
    return [kind for kind in KINDS if not held.holds(kind) and (variable(VARIABLES[kind]) or "").lower() != NO_KEY]


def _held(folder: Path) -> Keyring:
    trust = _trust_file(folder)
    return _load(folder, trust, tuple(_stamp(path) for path in (trust, *(file_of(folder, kind) for kind in KINDS))),
                 tuple(variable(VARIABLES[kind]) for kind in KINDS))  # fmt: skip


def _trust_file(folder: Path) -> Path:
    declared = variable(TRUST_VARIABLE)
    return Path(declared).expanduser().absolute() if declared else folder / TRUST


def file_of(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.pem"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Another one whenever the file was replaced; a process that lives for days hears of another key."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns  # the last changes with the mode, too


@lru_cache(maxsize=64)
def _read_trust(path: Path, _stamp: tuple[int, int, int] | None) -> Trust:
    return Trust.read(path)


@lru_cache(maxsize=64)
def _load(folder: Path, trust: Path, _stamps: tuple[object, ...], declared: tuple[str | None, ...]) -> Keyring:
    private, absent = {}, {}
    for kind, given in zip(KINDS, declared, strict=True):
        path = file_of(folder, kind)
        if given is not None and given.strip().lower() == NO_KEY:
            absent[kind] = f"this process must not have it ({VARIABLES[kind]}={NO_KEY})"
        elif given is not None:
            private[kind] = _private(given.encode(), VARIABLES[kind])
        elif not path.exists():
            absent[kind] = f"there is no {path}, and {VARIABLES[kind]} is not set"
        else:
            private[kind] = _private(_read_private(path), path)
    return Keyring(Trust.read(trust), private, absent)


def public_of(path: Path) -> bytes:
    """The public half of a private key's file."""
    return _private(_read_private(path), path).public_key().public_bytes_raw()


def _read_private(path: Path) -> bytes:
    """Of a file that only its owner, or a group that may only read, has access to."""
    try:
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o027:
            raise AuditKeyUnusable(path, f"its mode is {mode:04o}, so others can get at it; chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise AuditKeyUnusable(path, f"it cannot be read ({error.strerror})") from error


def _private(pem: bytes, where: object) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuditKeyUnusable(where, "it is no private key in PEM (openssl genpkey -algorithm ed25519)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditKeyUnusable(where, "it is a key of another kind than Ed25519 (openssl genpkey -algorithm ed25519)")
    return key


def _make(folder: Path, connection: sa.Connection) -> None:
    trust = _trust_file(folder)
    for kind in KINDS:
        declared = variable(VARIABLES[kind])
        if declared is not None and declared.strip().lower() == NO_KEY:
            raise KeysMissing(trust, f"no keys were made yet, and this process must not ({VARIABLES[kind]}={NO_KEY})")
        if declared is not None or file_of(folder, kind).exists():
            raise KeysMissing(trust, f"there is a {kind} key, but nothing says which keys to believe")
    if variable(TRUST_VARIABLE) is not None:
        raise KeysMissing(trust, f"{TRUST_VARIABLE} names it, and it does not exist")
    last = connection.execute(sa.text("SELECT seq, hash, signature FROM audit ORDER BY seq DESC LIMIT 1")).one_or_none()
    if last is not None and last.signature is not None:
        raise KeysMissing(trust, "the chain was signed, and the keys that did it are gone")
    write_new(folder, unsigned=last.seq if last else 0, head=last.hash if last else "")


def write_new(folder: Path, *, unsigned: int = 0, head: str = "") -> None:
    """A pair of new keys in a new folder, and the file that says to believe them.

    In one rename: killed anywhere there are none, or all. Of several that try, the first one's remain.
    """
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        made = {kind: new_private(draft / f"{kind}.pem") for kind in KINDS}
        chain = sha256(b"".join(made.values())).hexdigest()[:16]
        keys = {kind: (made[kind],) for kind in KINDS}
        trust = Trust(chain=chain, keys=keys, unsigned=unsigned, unsigned_head=head)
        durable.write_new(draft / TRUST, (canonical_json(trust.as_data()) + "\n").encode(), 0o644)
        draft.rename(folder)  # onto an empty folder, too; never onto one that holds something
    except OSError as error:
        if not (folder / TRUST).exists():
            raise AuditKeyUnusable(folder, f"no keys can be made there ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def new_private(path: Path) -> bytes:
    """A new key in a new file; its public half."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    durable.write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return key.public_key().public_bytes_raw()


def decoded(text: str) -> bytes:
    """A public key as files and records hold it."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) != 32:
        raise ValueError(f"'{text[:12]}' is no public key of 32 bytes")
    return raw
