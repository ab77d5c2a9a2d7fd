"""Giving a note to a witness and taking its receipt, one function per kind. Nothing said here repeats a secret.

Each may be repeated: what is there already is not written twice (but for a message, and a time stamp).
"""

import base64
import json
import os
import re
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ai_assets.base.extras import ExtraMissing
from ai_assets.base.home import variable
from ai_assets.base.plural import plural
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.documents.source import without_credentials
from ai_assets.signoff.audit_errors import WitnessFailed
from ai_assets.signoff.channels import Message, send
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.signoff.witness_settings import WitnessSettings

GIT_TIMEOUT_S = 60.0
WEB_TIMEOUT_S = 20.0
LONGEST_ANSWER = 1 << 17
"""Bytes of a time stamp."""
NOTE_SUFFIX = ".note"


@dataclass(frozen=True, kw_only=True)
class WitnessContext:
    """What the kinds need beside their settings."""

    project: Path
    """Paths of `desk.yaml` begin here."""
    channels: Mapping[str, str]
    """By name, the environment variable of its URL."""


def give(witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> str:
    """The receipt; WitnessFailed where the witness did not take the note."""
    match witness.kind:
        case "file":
            return _to_file(witness, note, around)
        case "s3":
            return _to_s3(witness, note)
        case "git":
            return _to_git(witness, note, around)
        case "channel":
            return _to_channel(witness, note, around)
        case _:
            return _to_authority(witness, note, around)


def file_name(note: SignedNote) -> str:
    """Several chains may have one witness."""
    chain = re.sub(r"[^A-Za-z0-9._-]", "-", note.origin)
    return f"{chain}-{note.size:012d}{NOTE_SUFFIX}"


def _to_file(witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> str:
    path = around.project / Path(str(witness.file)).expanduser()
    try:
        if path.is_dir() or str(witness.file).endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return _beside_others(witness, path / file_name(note), note)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            there = file.read()
            if note.text not in there:
                file.write(("" if not there or there.endswith("\n\n") else "\n") + note.text + "\n")
                file.flush()
                os.fsync(file.fileno())
            return f"{path}, {plural(file.tell(), 'byte')} long"
    except OSError as error:
        raise WitnessFailed(witness.name, f"{error.filename or path}: {error.strerror or error}") from error


def _beside_others(witness: WitnessSettings, path: Path, note: SignedNote) -> str:
    """A file of its own, whole or not there."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(note.text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        if path.read_text(encoding="utf-8") != note.text:
            raise WitnessFailed(witness.name, f"{path} holds another note of as many records") from None
    finally:
        draft.unlink(missing_ok=True)
    return str(path)


def _to_s3(witness: WitnessSettings, note: SignedNote) -> str:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise ExtraMissing(f"The witness '{witness.name}'", "s3", "boto3") from error
    url = urlsplit(str(witness.s3))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    key = "/".join(part for part in (url.path.strip("/"), file_name(note)) if part)
    told: dict[str, Any] = {"Bucket": url.netloc, "Key": key, "Body": note.text.encode(), "ChecksumAlgorithm": "SHA256"}
    if witness.lock_days is not None:
        until = datetime.now(UTC) + timedelta(days=witness.lock_days)
        told |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    limits = Config(connect_timeout=WEB_TIMEOUT_S, read_timeout=WEB_TIMEOUT_S, retries={"max_attempts": 2})
    try:
        client = boto3.client("s3", endpoint_url=query.get("endpoint_override"), region_name=query.get("region"),
                              config=limits)  # fmt: skip
        try:
            done = client.put_object(**told, IfNoneMatch="*", ContentType="text/plain; charset=utf-8")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise
            done = client.get_object(Bucket=url.netloc, Key=key)
            if done["Body"].read() != note.text.encode():
                raise WitnessFailed(witness.name, f"{key} holds another note of as many records") from None
    except ClientError as error:
        said = error.response["Error"]
        raise WitnessFailed(witness.name, f"the store answered {said['Code']} ({said.get('Message', '')})") from error
    except (BotoCoreError, ValueError) as error:
        raise WitnessFailed(witness.name, without_credentials(str(error)).rstrip(".")) from error
    version = f", version {done['VersionId']}" if done.get("VersionId") else ""
    return f"s3://{url.netloc}/{key}{version}, ETag {done['ETag']}"


def _to_git(witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> str:
    location = str(witness.git)
    here = around.project / Path(location).expanduser()
    if (here / ".git").exists():
        commit = _committed(witness, here, note)
        if remote := _git(witness, here, "remote").splitlines():
            _git(witness, here, "push", "--quiet", remote[0], "HEAD")
        return f"commit {commit}"
    with TemporaryFolder("git") as folder:
        address = here.absolute().as_uri() if here.is_dir() else location
        _git(witness, folder, "clone", "--quiet", "--depth", "1", "--", address, "notes")
        commit = _committed(witness, folder / "notes", note)
        _git(witness, folder / "notes", "push", "--quiet", "origin", "HEAD")
    return f"commit {commit}"


def _committed(witness: WitnessSettings, repository: Path, note: SignedNote) -> str:
    """The commit that holds the note; one is made where there is none. What else is staged there stays so."""
    path = repository / "checkpoints" / file_name(note)
    name = str(path.relative_to(repository))
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(note.text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != note.text:
        raise WitnessFailed(witness.name, f"{name} holds another note of as many records")
    _git(witness, repository, "add", "--force", "--", name)
    if _git(witness, repository, "status", "--porcelain", "--", name):
        message = f"Checkpoint of {note.origin}: {plural(note.size, 'record')}"
        _git(witness, repository, "commit", "--quiet", "--no-verify", "-m", message, "--only", "--", name)
    return _git(witness, repository, "log", "-1", "--format=%H", "--", name).strip()


def _git(witness: WitnessSettings, folder: Path, *arguments: str) -> str:
    """In a session of its own, where it has no terminal to ask for a password on."""
    who = ("-c", "user.name=ai-assets", "-c", "user.email=ai-assets@localhost", "-c", "commit.gpgsign=false")
    try:
        done = subprocess.run(
            ["git", *who, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=GIT_TIMEOUT_S, start_new_session=True, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise WitnessFailed(witness.name, "git is not installed, or the folder is gone") from error
    except subprocess.TimeoutExpired as error:
        raise WitnessFailed(witness.name, f"git {arguments[0]} took longer than {GIT_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = " ".join(re.sub(r"//[^/@\s]*@", "//", done.stderr).split())
        raise WitnessFailed(witness.name, f"git {arguments[0]}: {said[:300] or f'exit code {done.returncode}'}")
    return done.stdout


def _to_channel(witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> str:
    name = around.channels[str(witness.channel)]
    url = variable(name)
    if url is None:
        raise WitnessFailed(witness.name, f"the environment variable {name}, which holds its address, is not set")
    title = f"Checkpoint of the audit chain: {plural(note.size, 'record')}"
    body = f"Keep this message. `ai-assets audit verify --against FILE` holds the chain against it.\n\n{note.text}"
    if (problem := send(url, Message(title=title, body=body, rows=()))) is not None:
        raise WitnessFailed(witness.name, problem.rstrip("."))
    return "sent"


def _to_authority(witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> str:
    """JSON with the time and the whole answer (base64), which `openssl ts -verify` takes."""
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    except ImportError as error:
        raise ExtraMissing(f"The witness '{witness.name}'", "timestamps", "rfc3161-client") from error
    data = note.text.encode()
    request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
    raw = _posted(witness, request.as_bytes())
    moment = _stamped(witness, request, raw, data, around)
    return json.dumps({"time": moment.isoformat(), "answer": base64.b64encode(raw).decode()})


def _posted(witness: WitnessSettings, query: bytes) -> bytes:
    import requests

    headers, url = {"Content-Type": "application/timestamp-query"}, str(witness.timestamp)
    try:
        with requests.post(url, query, headers=headers, timeout=WEB_TIMEOUT_S, stream=True) as answer:
            if not answer.ok:
                raise WitnessFailed(witness.name, f"it answered {answer.status_code} {answer.reason}")
            return next(answer.iter_content(LONGEST_ANSWER), b"")
    except requests.RequestException as error:
        raise WitnessFailed(witness.name, f"it cannot be reached ({type(error).__name__})") from error


def _stamped(witness: WitnessSettings, request: Any, raw: bytes, data: bytes, around: WitnessContext) -> datetime:
    """The time that the authority vouches for, if its answer is to this question and of this note."""
    from cryptography.x509 import load_pem_x509_certificates
    from rfc3161_client import PKIStatus, VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        answer = decode_timestamp_response(raw)
        if answer.status not in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS):
            raise WitnessFailed(witness.name, f"it refused ({'; '.join(answer.status_string) or answer.status})")
        told = answer.tst_info
        if told.message_imprint.message != sha256(data).digest() or told.nonce != request.nonce:
            raise WitnessFailed(witness.name, "its answer is to another question")
        if witness.certificates is not None:
            path = around.project / witness.certificates.expanduser()
            builder = VerifierBuilder.from_request(request)
            for certificate in load_pem_x509_certificates(path.read_bytes()):
                builder = builder.add_root_certificate(certificate)
            builder.build().verify_message(answer, data)
        moment: datetime = told.gen_time
        return moment
    except (ValueError, OSError, VerificationError) as error:
        raise WitnessFailed(witness.name, f"its answer does not verify ({error})".replace("\n", " ")[:300]) from error
