"""The bucket at `AI_ASSETS_DATA_URL`: objects of a store that speaks S3, and the two conditions that make commits safe.

What is named by its content is put as it is. What replaces something else is put only if nothing is there, or only if
what is there is what was read before: of two writers one loses, and is told. Whatever fails for a moment is tried again
for a declared time; an answer that was lost is found out by reading what is there now.
"""

import base64
import contextlib
import datetime
import email.utils
import functools
import hashlib
import logging
import math
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ai_assets.base.errors import AiAssetsError, UserError
from ai_assets.base.extras import need
from ai_assets.base.home import variable

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
PATIENCE_S = 60.0
"""So long a store may fail for reasons that pass, before the caller hears of it."""
TOLD_AFTER_S = 3.0
LONGEST_PAUSE_S = 5.0
CONNECTIONS = 32
MOST_DELETED = 1_000
"""Keys in one request; S3 takes no more."""
PIECE_BYTES = 1 << 20
RANGE_BYTES = 8 << 20
PARAMETERS = ("endpoint_override", "region", "scheme")
PROBE = ".probe-of-conditions"
_NO_TAG = '"0123456789abcdef0123456789abcdef"'

_PASSING = {
    "InternalError", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "500", "502", "503", "504", "429", "409",
    "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
}  # fmt: skip
_LOST = {"PreconditionFailed", "412"}
_NOTHING = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed", "401"}
_RIGHTS = {
    "get_object": "read",
    "head_object": "read",
    "put_object": "write",
    "copy_object": "write",
    "delete_objects": "delete",
}

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class DataStoreUnusable(UserError):
    def __init__(self, where: str, found: str, remedy: str) -> None:
        super().__init__(f"The data store {where} cannot be used: {found}. {remedy}")


class DataStoreSilent(DataStoreUnusable):
    """It failed for longer than it may; later it may answer."""

    passes = True


class ObjectAltered(UserError):
    def __init__(self, where: str, found: str) -> None:
        self.found = found
        super().__init__(
            f"The object {where} does not hold the bytes that its name says (their SHA-256 is {found}). "
            "Somebody replaced it: restore it from a backup, or run the partition again."
        )


class ObjectMissing(AiAssetsError):
    def __init__(self, where: str) -> None:
        super().__init__(f"The object {where} is missing.")


class ObjectReplaced(AiAssetsError):
    """A conditional put lost: somebody else was first."""

    def __init__(self, where: str) -> None:
        super().__init__(f"The object {where} was written by somebody else meanwhile.")


@dataclass(frozen=True)
class StoredObject:
    """What was read, and the tag by which a later put knows that it is still the same."""

    content: bytes
    tag: str


@dataclass(frozen=True)
class ListedObject:
    key: str
    size: int
    tag: str
    modified_s: float
    """By the clock of the store."""


def opened_bucket(url: str, *names: str) -> "DataBucket":
    """What lies below these names, over connections that this process has already, if any."""
    return _opened(os.getpid(), url, names)


@functools.lru_cache(maxsize=256)
def _opened(process: int, url: str, names: tuple[str, ...]) -> "DataBucket":
    return _opened(process, url, ()).below(*names) if names else DataBucket(url)


@functools.lru_cache(maxsize=64)
def _refused_careless(_process: int, url: str) -> None:
    opened_bucket(url).refuse_careless()


def refuse_careless(url: str) -> None:
    """Raise where a store does not keep two writers apart; a process asks once."""
    _refused_careless(os.getpid(), url)


class DataBucket:
    """The objects below one prefix. Safe to share between threads; a child process opens its own."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, connected: "_Connected | None" = None) -> None:
        """`connected`: the connections of another part of the same bucket."""
        self.url = url
        self.patience_s = patience_s
        parts = urlsplit(url)
        self.bucket = parts.hostname or ""
        self.prefix = unquote(parts.path).strip("/")
        self.parameters = dict(parse_qsl(parts.query))
        if problem := self._problem(parts.username or parts.password):
            raise DataStoreUnusable(self.describe(), *problem)
        self._connected = connected or _Connected(self.endpoint, self.region)

    def _problem(self, has_credentials: str | None) -> tuple[str, str] | None:
        wanted = "Write s3://bucket/prefix?endpoint_override=...&region=..."
        if urlsplit(self.url).scheme != "s3" or not self.bucket:
            return "its address is not that of a bucket", wanted
        if has_credentials:
            return "its address holds credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead."
        if unknown := sorted(set(self.parameters) - set(PARAMETERS)):
            return f"its address has an unknown parameter '{unknown[0]}'", wanted
        return None

    def describe(self) -> str:
        """Its address, without what may be secret."""
        at = self.endpoint
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + (f" at {at}" if at else "")

    @property
    def endpoint(self) -> str | None:
        """Of another store than Amazon's, with its scheme."""
        declared = self.parameters.get("endpoint_override") or variable("AWS_ENDPOINT_URL")
        if declared is None or "://" in declared:
            return declared
        return f"{self.parameters.get('scheme', 'https')}://{declared}"

    @property
    def region(self) -> str:
        return self.parameters.get("region") or variable("AWS_REGION") or variable("AWS_DEFAULT_REGION") or "us-east-1"

    def below(self, *names: str) -> Self:
        """The same bucket, below a longer prefix."""
        path = "/".join(quote(name) for name in (*filter(None, self.prefix.split("/")), *names))
        query = urlsplit(self.url).query
        url = f"s3://{self.bucket}/{path}" + (f"?{query}" if query else "")
        return type(self)(url, patience_s=self.patience_s, connected=self._connected)

    def where(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    # Reading.

    def get(self, key: str) -> StoredObject | None:
        """The whole object in memory; None where there is none."""
        return self._patiently("get_object", key, lambda: self._got(key))

    def fetch(self, key: str, path: Path, sha256: str) -> None:
        """The object as that file, in one step, once its bytes are those that the digest names."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.brought(key, path.parent, sha256) as temporary:
            temporary.replace(path)

    @contextlib.contextmanager
    def brought(self, key: str, folder: Path, sha256: str | None = None) -> Iterator[Path]:
        """The object as a file of that folder within the block; `sha256`: what its bytes have to be."""
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            found = self._patiently("get_object", key, lambda: self._streamed(key, temporary))
            if found is None:
                raise ObjectMissing(self.where(key))
            if sha256 is not None and found != sha256:
                raise ObjectAltered(self.where(key), found)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def pieces(self, key: str) -> Iterator[bytes]:
        """The content in order, with a request for each piece, so that no more of it is in memory."""
        start, total = 0, 1
        while start < total:
            found = self._patiently("get_object", key, functools.partial(self._ranged, key, start))
            if found is None:
                raise ObjectMissing(self.where(key))
            piece, total = found
            yield piece
            start += len(piece)

    def size(self, key: str) -> int | None:
        """Of an object in bytes, by one cheap request; None where there is none."""
        return self._patiently("head_object", key, lambda: self._sized(key))

    def objects(self, prefix: str = "") -> Iterator[ListedObject]:
        """Every object below: a request per thousand, for maintenance only."""
        start, token = self._key(prefix), ""
        while True:
            more: dict[str, str] = {"ContinuationToken": token} if token else {}
            page = self._patiently(
                "list_objects_v2",
                prefix,
                functools.partial(self._client.list_objects_v2, Bucket=self.bucket, Prefix=start, **more),
            )
            for entry in page.get("Contents", ()):
                key = entry["Key"][len(self._key("")) :]
                yield ListedObject(key, int(entry["Size"]), entry["ETag"], entry["LastModified"].timestamp())
            token = page.get("NextContinuationToken", "")
            if not token:
                return

    def now_s(self) -> float:
        """The present moment by the clock of the store, which dated its objects; to the second."""
        said = self._patiently("head_bucket", "", lambda: self._client.head_bucket(Bucket=self.bucket))
        date = said["ResponseMetadata"]["HTTPHeaders"]["date"]
        moment: datetime.datetime = email.utils.parsedate_to_datetime(date)
        return moment.timestamp()

    def keeps_versions(self) -> bool | None:
        """Whether what is replaced or deleted can be brought back; None where that may not be asked."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            said = self._client.get_bucket_versioning(Bucket=self.bucket)
        except (ClientError, BotoCoreError):
            return None
        return bool(said.get("Status") == "Enabled")

    def sha256(self, key: str) -> str | None:
        """Of an object, which is read for it; None where there is none."""
        return self._patiently("get_object", key, lambda: self._digested(key))

    # Writing.

    def put(self, key: str, content: bytes | Path) -> str:
        """For what is named by its content, so that whoever writes it writes the same; returns the tag."""
        return self._patiently("put_object", key, lambda: self._sent(key, content, {}))

    def put_if_absent(self, key: str, content: bytes) -> str:
        """Raises `ObjectReplaced` where something else is there."""
        return self._conditional(key, content, {"IfNoneMatch": "*"})

    def put_if_unchanged(self, key: str, content: bytes, tag: str) -> str:
        """Raises `ObjectReplaced` where what is there is not what had that tag."""
        return self._conditional(key, content, {"IfMatch": tag})

    def lies_in(self, other: "DataBucket") -> bool:
        """Whether its objects are among those of the other."""
        same = (self.endpoint, self.bucket) == (other.endpoint, other.bucket)
        return same and f"{self.prefix}/".startswith(f"{other.prefix}/" if other.prefix else "")

    def can_copy(self, source: "DataBucket") -> bool:
        """Whether the store can make a copy of what is there, without its bytes coming here."""
        return (self.endpoint, self.region) == (source.endpoint, source.region)

    def copy(self, source: "DataBucket", key: str, to: str) -> str | None:
        """Made by the store; the SHA-256 of the copy, where the store says it."""
        said = self._patiently("copy_object", to, lambda: self._copied(source, key, to))
        if said is None:
            raise ObjectMissing(source.where(key))
        checksum = said.get("CopyObjectResult", {}).get("ChecksumSHA256")
        return base64.b64decode(checksum).hex() if checksum else None

    def delete(self, keys: Iterable[str]) -> None:
        """Those that are not there are no mistake."""
        self._delete([{"Key": self._key(key)} for key in keys])

    def erase(self, prefix: str, *, only_replaced: bool = False) -> int:
        """Delete every version of every object that begins so, and say how many; of a bucket that keeps no versions
        there is one of each. `only_replaced`: what a bucket keeps of objects that were deleted or replaced."""
        found: list[dict[str, str]] = []
        more: dict[str, str] = {}
        while True:
            page = self._patiently(
                "list_object_versions",
                prefix,
                functools.partial(
                    self._client.list_object_versions, Bucket=self.bucket, Prefix=self._key(prefix), **more
                ),
            )
            for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if not (only_replaced and entry["IsLatest"] and "Size" in entry):  # a marker has no size
                    found.append({"Key": entry["Key"], "VersionId": entry["VersionId"]})
            if not page.get("IsTruncated"):
                break
            more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        self._delete(found)
        return len(found)

    def _delete(self, every: Sequence[dict[str, str]]) -> None:
        for start in range(0, len(every), MOST_DELETED):
            some = every[start : start + MOST_DELETED]
            said = self._patiently(
                "delete_objects",
                some[0]["Key"],
                functools.partial(self._client.delete_objects, Bucket=self.bucket, Delete={"Objects": some}),
            )
            if failed := [error for error in said.get("Errors", ()) if error.get("Code") != "NoSuchKey"]:
                raise self._unusable("delete_objects", str(failed[0].get("Code")), str(failed[0].get("Message", "")))

    def prove(self) -> None:
        """Writes, reads, replaces and deletes one object: rights are there, and the store honours both conditions.

        A store that ignores a condition would let two writers win, so it is refused.
        """
        key = f"{PROBE}-{uuid.uuid4().hex}"
        tag = self.put_if_absent(key, b"1")
        try:
            if self._ignores(lambda: self.put_if_absent(key, b"2")):
                raise self._careless("If-None-Match")
            if self._ignores(lambda: self.put_if_unchanged(key, b"3", _NO_TAG)):
                raise self._careless("If-Match")
            self.put_if_unchanged(key, b"4", tag)
            found = self.get(key)
            if found is None or found.content != b"4":
                raise DataStoreUnusable(
                    self.describe(),
                    "what was written is not what is read",
                    "Use a store that is read after its writes.",
                )
        finally:
            self.delete([key])

    def refuse_careless(self) -> None:
        """The conditions alone, for whoever is about to write: four requests, and nothing is written but for the first
        who ever asks, whose object stays."""
        if self._ignores(lambda: self.put_if_absent(PROBE, uuid.uuid4().bytes)) and self._ignores(
            lambda: self.put_if_absent(PROBE, uuid.uuid4().bytes)
        ):
            raise self._careless("If-None-Match")
        if self._ignores(lambda: self.put_if_unchanged(PROBE, uuid.uuid4().bytes, _NO_TAG)):
            raise self._careless("If-Match")

    @staticmethod
    def _ignores(put: Callable[[], str]) -> bool:
        with contextlib.suppress(ObjectReplaced):
            put()
            return True
        return False

    def _careless(self, condition: str) -> DataStoreUnusable:
        return DataStoreUnusable(
            self.describe(),
            f"it ignores the condition {condition} of a write, so two writers could both win",
            "Use a store that honours conditional writes, such as Amazon S3 or a recent MinIO.",
        )

    # Requests.

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _got(self, key: str) -> StoredObject | None:
        answer = self._answered(key)
        return None if answer is None else StoredObject(answer["Body"].read(), answer["ETag"])

    def _streamed(self, key: str, path: Path) -> str | None:
        """Its digest; None where there is no such object."""
        answer = self._answered(key)
        if answer is None:
            return None
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in answer["Body"].iter_chunks(PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _ranged(self, key: str, start: int) -> tuple[bytes, int] | None:
        """A piece, and the size of the whole."""
        with self._nothing_there():
            wanted = f"bytes={start}-{start + RANGE_BYTES - 1}"
            found = self._client.get_object(Bucket=self.bucket, Key=self._key(key), Range=wanted)
            return found["Body"].read(), int(found["ContentRange"].rpartition("/")[2])
        return None

    def _copied(self, source: "DataBucket", key: str, to: str) -> Mapping[str, Any] | None:
        with self._nothing_there():
            found: Mapping[str, Any] = self._client.copy_object(
                Bucket=self.bucket,
                Key=self._key(to),
                CopySource={"Bucket": source.bucket, "Key": source._key(key)},
                ChecksumAlgorithm="SHA256",
            )
            return found
        return None

    def _digested(self, key: str) -> str | None:
        if (answer := self._answered(key)) is None:
            return None
        digest = hashlib.sha256()
        for piece in answer["Body"].iter_chunks(PIECE_BYTES):
            digest.update(piece)
        return digest.hexdigest()

    def _answered(self, key: str) -> Mapping[str, Any] | None:
        with self._nothing_there():
            found: Mapping[str, Any] = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
            return found
        return None

    def _sized(self, key: str) -> int | None:
        with self._nothing_there():
            return int(self._client.head_object(Bucket=self.bucket, Key=self._key(key))["ContentLength"])
        return None

    @contextlib.contextmanager
    def _nothing_there(self) -> Iterator[None]:
        """That there is no such object is an answer."""
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            if _code(error) not in _NOTHING:
                raise

    def _sent(self, key: str, content: bytes | Path, condition: Mapping[str, str]) -> str:
        with contextlib.ExitStack() as opened:
            body = opened.enter_context(content.open("rb")) if isinstance(content, Path) else content
            said = self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=body, **condition)
            return str(said["ETag"])

    def _conditional(self, key: str, content: bytes, condition: Mapping[str, str]) -> str:
        """An earlier attempt of this very put may have arrived although its answer was lost: then what is there is
        what was sent, and the put has won."""
        from botocore.exceptions import ClientError

        try:
            return self._patiently("put_object", key, lambda: self._sent(key, content, condition))
        except ClientError as error:
            if _code(error) not in _LOST | _NOTHING:
                raise
        there = self.get(key)
        if there is None or there.content != content:
            raise ObjectReplaced(self.where(key))
        return there.tag

    def _patiently(self, request: str, key: str, act: Callable[[], _T]) -> _T:
        """The answer, after as many attempts as the patience allows; lost conditions are the caller's to read."""
        from botocore.exceptions import BotoCoreError, ClientError

        began_s, pause_s = time.monotonic(), 0.1
        until_s = began_s + self.patience_s
        while True:
            try:
                return act()
            except ClientError as error:
                code = _code(error)
                if code in _LOST or (request == "put_object" and code in _NOTHING):
                    raise
                if code not in _PASSING:
                    raise self._unusable(request, code, error.response.get("Error", {}).get("Message", "")) from None
                failed: Exception = error
            except (BotoCoreError, *_network_errors()) as error:
                if not isinstance(error, _network_errors()):
                    raise self._cannot(error) from None
                failed = error
            if time.monotonic() + pause_s > until_s:
                raise self._silent(failed) from None
            self._tell_waiting(failed, time.monotonic() - began_s)
            time.sleep(pause_s * (0.5 + random.random() / 2))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _unusable(self, request: str, code: str, message: str) -> DataStoreUnusable:
        right = _RIGHTS.get(request, "list")
        if code == "NoSuchBucket":
            found, remedy = f"there is no bucket '{self.bucket}'", "Create it, or correct its name."
        elif code in ("AccessDenied", "403", "Forbidden"):
            found = f"the right to {right} is missing ({code})"
            remedy = "docs/storage.md has the rights that are needed."
        elif code in _REFUSED:
            found, remedy = f"the credentials were refused ({code})", "Check AWS_ACCESS_KEY_ID and its secret."
        elif code in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
            found, remedy = f"the credentials have expired ({code})", "Renew them."
        elif code == "RequestTimeTooSkewed":
            found, remedy = "its clock and the one of this machine differ by too much", "Set the clock (NTP)."
        elif code in ("PermanentRedirect", "301", "307", "IllegalLocationConstraintException"):
            found, remedy = f"the bucket is in another region ({code})", "Add ?region=... to its address."
        else:
            found, remedy = f"it answered {code}{f' ({message})' if message else ''}", "Check the bucket and endpoint."
        return DataStoreUnusable(self.describe(), found, remedy)

    def _cannot(self, error: Exception) -> DataStoreUnusable:
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            return DataStoreUnusable(
                self.describe(), "no credentials were found", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        said = " ".join(str(error).split()).rstrip(".")
        return DataStoreUnusable(self.describe(), f"{said} ({name})", "Check its address.")

    def _tell_waiting(self, error: Exception, since_s: float) -> None:
        """Once, however many requests wait: whoever looks on is not to take it for a hang."""
        if since_s >= TOLD_AFTER_S and time.monotonic() - self._connected.told_s > self.patience_s:
            self._connected.told_s = time.monotonic()
            line = "Waiting for the data store %s, for up to %g s: %s."
            _LOG.warning(line, self.describe(), self.patience_s, _failing(error, since_s))

    def _silent(self, error: Exception) -> DataStoreSilent:
        found = _failing(error, self.patience_s)
        return DataStoreSilent(self.describe(), found, "Check the endpoint and the network, then run again.")

    @property
    def _client(self) -> Any:
        return self._connected.client


class _Connected:
    """Made when it is needed first: it imports boto3, and finds credentials."""

    def __init__(self, endpoint: str | None, region: str) -> None:
        self._endpoint, self._region = endpoint, region
        self.told_s = -math.inf
        """When somebody was told that it is waited for."""

    @functools.cached_property
    def client(self) -> Any:
        need("s3", "AI_ASSETS_DATA_URL")
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},  # ours know what a lost answer means
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if self._endpoint else "auto"},
        )
        session = boto3.session.Session()  # a session of its own: the default one is not safe between threads
        return session.client("s3", region_name=self._region, endpoint_url=self._endpoint, config=config)


def _failing(error: Exception, for_s: float) -> str:
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return f"it answered {_code(error)} for {for_s:.3g} s"
    return f"its endpoint could not be reached for {for_s:.3g} s ({type(error).__name__})"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@functools.cache
def _network_errors() -> tuple[type[Exception], ...]:
    """What may pass: no connection, none in time, or one that broke in the middle."""
    from botocore import exceptions as of_botocore
    from urllib3.exceptions import HTTPError

    return (
        of_botocore.HTTPClientError,
        of_botocore.ConnectionError,
        of_botocore.IncompleteReadError,
        HTTPError,
        ConnectionError,
        TimeoutError,
    )
