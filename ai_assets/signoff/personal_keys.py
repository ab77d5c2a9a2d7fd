"""Keys of persons: what they sign with one of these, no administrator and no server can sign for them.

An SSH key (also in an agent or on a security key), a minisign key, or a passkey at the desk (WebAuthn). What is signed
is a statement, readable text that names person, verdict, requests and digests. Here signatures are checked and, for the
command line, made by the person's own tools.
"""

import base64
import binascii
import hashlib
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ai_assets.base.extras import need
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.signoff.audit_errors import SignatureInvalid
from ai_assets.signoff.errors import PersonalKeyUnusable
from ai_assets.storage.digest import Json, canonical_json, sha256_hex

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

Type = Literal["ssh", "minisign", "webauthn"]
NAMESPACE = "ai-assets"
"""Of SSH signatures: one that was made for git or for files is none of ours."""
SIGNING_S = 300.0
"""So long a person may take to type a passphrase or touch a security key."""


@dataclass(frozen=True, kw_only=True)
class PersonalKey:
    type: Type
    public: str
    """As its tool writes it: a line `ssh-ed25519 AAAA...`, minisign's base64, or JSON of a passkey."""

    @property
    def key_id(self) -> str:
        return sha256_hex(f"{self.type} {self.public}".encode())[:16]


def statement(values: Mapping[str, Json]) -> bytes:
    """What is signed: one line of canonical JSON."""
    return (canonical_json(values) + "\n").encode()


def read_public(text: str) -> PersonalKey:
    """The content of an SSH or minisign public key file, or the key alone."""
    lines = [line.strip() for line in text.strip().splitlines() if not line.startswith("untrusted comment:")]
    words = lines[0].split() if lines else []
    if len(words) >= 2 and words[0] in _SSH_TYPES:
        _ssh_public(f"{words[0]} {words[1]}")
        return PersonalKey(type="ssh", public=f"{words[0]} {words[1]}")
    if len(words) == 1:
        _minisign_public(words[0])
        return PersonalKey(type="minisign", public=words[0])
    found = f"'{words[0][:40]}'" if words else "nothing"
    raise PersonalKeyUnusable(f"it begins with {found}, and should be the public half of an SSH or minisign key")


def key_id_of(text: str) -> str:
    """Of a key as people declare it: its public half, or the id that `reviewers key list` shows."""
    return text.strip() if re.fullmatch(r"\s*[0-9a-f]{16}\s*", text) else read_public(text).key_id


def verify(key: PersonalKey, data: bytes, signature: str) -> None:
    """Raises `SignatureInvalid` unless the owner of the key signed the data."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        match key.type:
            case "ssh":
                _verify_ssh(key.public, data, signature)
            case "minisign":
                _verify_minisign(key.public, data, signature)
            case "webauthn":
                _verify_webauthn(key.public, data, signature)
    except (InvalidSignature, UnsupportedAlgorithm, PersonalKeyUnusable, ValueError, KeyError, TypeError, IndexError,
            struct.error) as error:  # fmt: skip
        raise SignatureInvalid(f"the signature by the {key.type} key {key.key_id} is not of this") from error


# SSH (PROTOCOL.sshsig)

_SSH_TYPES = (
    "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "ssh-rsa",
)  # fmt: skip


def _ssh_public(line: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        if line.startswith("sk-ssh-ed25519"):
            return _security_key(base64.b64decode(line.split()[1], validate=True))[0]
        return load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm, struct.error, IndexError) as error:
        raise PersonalKeyUnusable(f"it is no SSH key ({error})") from error


def _strings(data: bytes) -> list[bytes]:
    """SSH's strings, each after its length."""
    found = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        if length > len(data) - 4:
            raise ValueError("a string is longer than what holds it")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _security_key(blob: bytes) -> tuple[Any, bytes]:
    """The key within an `sk-` key, and the application it is for."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    _, raw, application = _strings(blob)
    return Ed25519PublicKey.from_public_bytes(raw), application


def _verify_ssh(line: str, data: bytes, armoured: str) -> None:
    body = "".join(text for text in armoured.split("\n") if text and not text.startswith("-----"))
    blob = base64.b64decode(body, validate=True)
    if blob[:10] != b"SSHSIG" + struct.pack(">I", 1):
        raise ValueError("it is no SSH signature of version 1")
    public, namespace, reserved, algorithm, signed = _strings(blob[10:])
    known = base64.b64decode(line.split()[1], validate=True)
    if public != known or namespace != NAMESPACE.encode():
        raise ValueError("it is by another key, or for another purpose")
    hashed = hashlib.new({"sha256": "sha256", "sha512": "sha512"}[algorithm.decode()], data).digest()
    content = b"SSHSIG" + b"".join(_string(part) for part in (namespace, reserved, algorithm, hashed))
    kind, raw, rest = _first_two(signed)
    _check_ssh(line, kind, raw, content, rest)


def _first_two(blob: bytes) -> tuple[bytes, bytes, bytes]:
    """Two strings, and what comes after them."""
    found = []
    for _ in range(2):
        (length,) = struct.unpack(">I", blob[:4])
        if length > len(blob) - 4:
            raise ValueError("a string is longer than what holds it")
        found.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return found[0], found[1], blob


def _check_ssh(line: str, kind: bytes, raw: bytes, content: bytes, rest: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    declared, key = line.split()[0], _ssh_public(line)
    if rest and not declared.startswith("sk-"):
        raise ValueError("there is something behind the signature")
    match kind.decode():
        case "ssh-ed25519" if declared == "ssh-ed25519":
            key.verify(raw, content)
        case "sk-ssh-ed25519@openssh.com" if declared == kind.decode():
            _, application = _security_key(base64.b64decode(line.split()[1]))
            key.verify(raw, hashlib.sha256(application).digest() + rest + hashlib.sha256(content).digest())
            if not rest[0] & 1:
                raise ValueError("the security key was not touched")
        case "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" if declared == kind.decode():
            r, s = (int.from_bytes(number) for number in _strings(raw))
            curve: EllipticCurvePublicKey = key
            sizes = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
            curve.verify(encode_dss_signature(r, s), content, ec.ECDSA(sizes[curve.key_size]))
        case "rsa-sha2-512" if declared == "ssh-rsa":
            key.verify(raw, content, padding.PKCS1v15(), hashes.SHA512())
        case "rsa-sha2-256" if declared == "ssh-rsa":
            key.verify(raw, content, padding.PKCS1v15(), hashes.SHA256())
        case other:
            raise ValueError(f"a signature of kind {other} is not by this key")


# minisign


def _minisign_public(text: str) -> tuple[bytes, bytes]:
    """Its own id, and the key."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PersonalKeyUnusable("it is neither an SSH key nor base64, as minisign writes it") from error
    if len(blob) != 42 or blob[:2] != b"Ed":
        raise PersonalKeyUnusable("it is no public key of minisign")
    return blob[2:10], blob[10:]


def _verify_minisign(public: str, data: bytes, text: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    own_id, raw = _minisign_public(public)
    key = Ed25519PublicKey.from_public_bytes(raw)
    lines = text.splitlines()
    blob = base64.b64decode(lines[1], validate=True)
    if len(blob) != 74 or blob[2:10] != own_id:
        raise ValueError("it is by another key")
    hashed = {b"Ed": data, b"ED": hashlib.blake2b(data).digest()}[blob[:2]]
    key.verify(blob[10:], hashed)
    comment = lines[2].removeprefix("trusted comment: ").encode()
    key.verify(base64.b64decode(lines[3], validate=True), blob[10:] + comment)


# Passkeys


def _verify_webauthn(public: str, data: bytes, text: str) -> None:
    """As W3C's Web Authentication, 7.2: challenge, relying party, presence of a person, signature."""
    need("desk", "A passkey")
    from fido2 import cbor
    from fido2.cose import CoseKey
    from fido2.webauthn import AuthenticatorData, CollectedClientData

    known, given = json.loads(public), json.loads(text)
    client = CollectedClientData(from_base64url(given["client_data"]))
    authenticator = AuthenticatorData(from_base64url(given["authenticator_data"]))
    if client.type != "webauthn.get" or client.challenge != challenge(data):
        raise ValueError("another statement was signed")
    place = urlsplit(client.origin).hostname or ""
    if place != known["site"] and not place.endswith(f".{known['site']}"):
        raise ValueError("it was signed on another site")
    if authenticator.rp_id_hash != hashlib.sha256(str(known["site"]).encode()).digest():
        raise ValueError("it was signed for another site")
    if not authenticator.flags & AuthenticatorData.FLAG.UP:
        raise ValueError("nobody was present")
    cose: Any = cbor.decode(from_base64url(known["key"]))
    CoseKey.parse(cose).verify(bytes(authenticator) + client.hash, from_base64url(given["signature"]))


def challenge(data: bytes) -> bytes:
    """What a passkey signs of a statement."""
    return hashlib.sha256(data).digest()


def passkey(site: str, credential: bytes, key: bytes) -> PersonalKey:
    """Of a site, by the id of the credential and the public key in COSE's form."""
    parts = {"site": site, "credential": to_base64url(credential), "key": to_base64url(key)}
    return PersonalKey(type="webauthn", public=canonical_json(parts))


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# Signing on the command line


def sign_with(path: Path, data: bytes) -> str:
    """By `ssh-keygen` or `minisign`, which ask for a passphrase, an agent or a touch as they always do."""
    path = path.expanduser()
    try:
        head = path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError as error:
        raise PersonalKeyUnusable(f"{path} cannot be read ({error.strerror})") from error
    with TemporaryFolder("sign") as folder:
        file = folder / "statement"
        file.write_bytes(data)
        if "minisign" in head.splitlines()[0]:
            _call(["minisign", "-S", "-s", str(path), "-m", str(file)], "minisign")
            return file.with_name("statement.minisig").read_text(encoding="utf-8")
        _call(["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(path), str(file)], "openssh-client")
        return file.with_name("statement.sig").read_text(encoding="utf-8")


def _call(command: list[str], package: str) -> None:
    if shutil.which(command[0]) is None:
        raise PersonalKeyUnusable(f"{command[0]} is not installed (Debian's package {package})")
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=SIGNING_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PersonalKeyUnusable(f"{command[0]} did not sign within {SIGNING_S:.0f} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise PersonalKeyUnusable(f"{command[0]} did not sign: {said[-1] if said else done.returncode}")
