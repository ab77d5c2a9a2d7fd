"""A source in an S3-compatible store, read through Arrow. Made by `Source.at`."""

import errno
import io
import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from ai_assets.base.errors import SourceUnavailable
from ai_assets.base.globs import Patterns
from ai_assets.base.masking import without
from ai_assets.documents.source import Source, SourceFile, without_credentials

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_BUFFER_BYTES = 1 << 22
"""One request per 4 MiB when an object is streamed; whole reads go past the buffer."""


class Bucket(Source):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        parts = urlsplit(url)
        self._bucket = parts.netloc.rpartition("@")[2]
        self._secrets = [unquote(secret) for secret in (parts.password, parts.username) if secret]
        self._endpoint = without_credentials(parse_qs(parts.query).get("endpoint_override", [""])[0])

    def describe(self) -> str:
        return without_credentials(self._url) + (f" at {self._endpoint}" if self._endpoint else "")

    def _walk(self, wanted: Patterns) -> Iterator[tuple[SourceFile, str]]:
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSelector, FileType

        filesystem, prefix = self._connection
        try:
            infos = filesystem.get_file_info(FileSelector(prefix, recursive=True))
        except (OSError, ArrowInvalid) as error:
            raise self._unavailable(error) from None
        for info in infos:
            stored = info.path[len(prefix) :].lstrip("/") if info.path.startswith(prefix) else info.path
            names = stored.split("/")
            path = unicodedata.normalize("NFC", stored)
            if info.type != FileType.File or any(n.startswith(".") for n in names) or not wanted.match(path):
                continue
            # Arrow lists such keys and then refuses to open them.
            problem = None if all(names) else "its key has an empty part ('//'); rename it"
            file = SourceFile(path=path, size=info.size or 0, modified_ns=info.mtime_ns or 0, problem=problem)
            yield file, stored

    def _open(self, name: str) -> io.BufferedReader:
        filesystem, prefix = self._connection
        from pyarrow import ArrowInvalid

        try:
            stream = filesystem.open_input_file(f"{prefix}/{name}")
        except (OSError, ArrowInvalid) as error:
            raise self.file_error(error, name) from None
        return io.BufferedReader(_Object(stream, self, name), _BUFFER_BYTES)

    @cached_property
    def _connection(self) -> "tuple[FileSystem, str]":
        # `from_uri` and not the constructor: it alone honours AWS_ENDPOINT_URL and asks for the bucket's region.
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSystem

        if not self._bucket:
            raise SourceUnavailable(self.describe(), "it names no bucket", "Write s3://bucket/prefix.")
        try:
            filesystem, path = FileSystem.from_uri(self._url)
        except (OSError, ArrowInvalid) as error:
            raise self._unavailable(error) from None
        return filesystem, path.rstrip("/")

    def file_error(self, error: Exception, name: str) -> Exception:
        """What is wrong with one object, or with the whole store."""
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such object", name)
        if _aws_code(error) == "ACCESS_DENIED":
            return PermissionError(errno.EACCES, "access to the object was refused", name)
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> SourceUnavailable:
        code = _aws_code(error)
        if isinstance(error, FileNotFoundError):
            found, remedy = "no object begins with this prefix", "Upload the documents, or correct the prefix."
        elif code == "NO_SUCH_BUCKET":
            found, remedy = f"there is no bucket '{self._bucket}'", "Create it, or correct its name."
        elif code == "NETWORK_CONNECTION":
            found = "the endpoint cannot be reached"
            remedy = "Check endpoint_override in the URL or AWS_ENDPOINT_URL, and the network."
        elif code in _REFUSALS:
            found = f"access was refused ({code})"
            remedy = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the right to list and read the bucket."
        elif code:
            found, remedy = f"the store answered {code}", "Check the bucket, the region and the endpoint."
        else:
            found, remedy = self._scrubbed(str(error)), "Write s3://bucket/prefix?endpoint_override=...&region=..."
        return SourceUnavailable(self.describe(), found, remedy)

    def _scrubbed(self, text: str) -> str:
        return without(text.replace(self._url, self.describe()), self._secrets).rstrip(".")


_REFUSALS = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH",
    "MISSING_AUTHENTICATION_TOKEN", "UNRECOGNIZED_CLIENT", "INVALID_SIGNATURE", "REQUEST_EXPIRED",
}  # fmt: skip


class _Object(io.RawIOBase):
    """An open object whose errors are ours."""

    def __init__(self, stream: io.RawIOBase, bucket: Bucket, name: str) -> None:
        self._stream, self._bucket, self._name = stream, bucket, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        try:
            return self._stream.readinto(buffer) or 0
        except OSError as error:
            raise self._bucket.file_error(error, self._name) from None

    def readall(self) -> bytes:
        """One request; the inherited one would ask for 8 KiB at a time."""
        try:
            return self._stream.read()
        except OSError as error:
            raise self._bucket.file_error(error, self._name) from None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _aws_code(error: Exception) -> str | None:
    code = re.search(r"AWS Error (\w+)", str(error))
    return code[1] if code else None
