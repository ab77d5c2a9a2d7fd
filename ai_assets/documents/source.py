"""Read-only access to the place the documents come from: a local folder, or a prefix of an S3-compatible store.

Paths and bytes only; what is in a file is nobody's business here. Nothing is touched before the first `list` or `open`.
"""

import errno
import io
import os
import re
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ai_assets.base.errors import SourceUnavailable
from ai_assets.base.globs import Patterns

_BUFFER_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    path: str
    """Relative to the source, '/'-separated, NFC; unique within one listing."""
    size: int
    modified_ns: int
    problem: str | None = None
    """Why it must not be read; such a file is listed so that somebody hears of it."""


class Source(ABC):
    """A folder or an object store. Trouble with the source raises SourceUnavailable, with one file OSError."""

    def __init__(self) -> None:
        self._stored_names: dict[str, str] | None = None

    @staticmethod
    def at(location: str | Path) -> "Source":
        """A folder, `file:///folder`, or `s3://bucket/prefix?endpoint_override=http://host:port&region=us-east-1`.

        S3 also reads the AWS_* variables. Other schemes are refused: Arrow's Google and Azure clients wait minutes
        for a metadata server before they report anything.
        """
        text = str(location)
        scheme, separator, _ = text.partition("://")
        if not separator:
            return _Folder(Path(location))
        match scheme:
            case "file":
                return _Folder(Path(unquote(urlsplit(text).path)))
            case "s3":
                from ai_assets.documents.source_s3 import Bucket

                return Bucket(text)
        raise SourceUnavailable(
            without_credentials(text),
            f"'{scheme}' is no known kind of source",
            "Use a folder, or s3://bucket/prefix (with ?endpoint_override=http://host:port for other stores).",
        )

    def list(self, include: Sequence[str], exclude: Sequence[str]) -> Iterator[SourceFile]:
        """Every file that fits one of `include` (all, if empty) and none of `exclude`, by path.

        `**` spans folders, `*` and `?` do not; a pattern is matched from the top, so `*.md` finds no file in a
        folder. Names that begin with a dot are skipped.
        """
        found, stored = [], {}
        for file, name in self._walk(Patterns(include, exclude)):
            found.append(file)
            if name != file.path and file.problem is None:
                stored[file.path] = name
        self._stored_names = stored
        return iter(_distinct(sorted(found, key=lambda file: file.path)))

    def look(self) -> Iterator[SourceFile]:
        """Every file as the walk comes to it, in no order: for a first look at a source of unknown size."""
        return (file for file, _ in self._walk(Patterns((), ())))

    def open(self, path: str) -> io.BufferedReader:
        """The bytes of a listed file; a context manager."""
        try:
            return self._open(path)
        except FileNotFoundError:
            # The store may hold the name in another normal form, and only a listing knows which.
            if path.isascii():
                raise
            if self._stored_names is None:
                self.list((), ())
            stored = (self._stored_names or {}).get(path)
            if stored is None:
                raise
            return self._open(stored)

    @abstractmethod
    def describe(self) -> str:
        """For people: where it is, without credentials."""

    @abstractmethod
    def _walk(self, wanted: Patterns) -> Iterator[tuple[SourceFile, str]]:
        """Each file with the relative name that the store itself has for it."""

    @abstractmethod
    def _open(self, name: str) -> io.BufferedReader: ...


class _Folder(Source):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def describe(self) -> str:
        return str(self._root)

    def _walk(self, wanted: Patterns) -> Iterator[tuple[SourceFile, str]]:
        self._check()
        return _walk_folder(str(self._root), wanted)

    def _open(self, name: str) -> io.BufferedReader:
        real_root = self._real_root
        real = f"{real_root}/{name}"
        mode = _plain_mode(real_root, name)
        if mode is None:
            real = os.path.realpath(self._root / name)
            if not _is_inside(real, real_root):
                raise PermissionError(errno.EACCES, "leaves the source folder", name)
            try:
                mode = os.stat(real).st_mode  # noqa: PTH116 - the path is a text here
            except FileNotFoundError:
                self._check()
                raise
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", name)
        # O_NONBLOCK: a pipe put in the file's place after the check above must not hold us up.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return io.BufferedReader(io.FileIO(descriptor), _BUFFER_BYTES)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self._root)

    def _check(self) -> None:
        try:
            with os.scandir(self._root):
                return
        except FileNotFoundError:
            found, remedy = "there is no such folder", "Create it, or correct the path."
        except NotADirectoryError:
            found, remedy = "it is a file, not a folder", "Name the folder that contains the documents."
        except PermissionError:
            found = f"user {os.geteuid()} may not read this folder"
            remedy = "Give it read and execute permission (chmod u+rx), or run as another user."
        except OSError as error:
            found, remedy = f"it cannot be read: {error.strerror}", "Check the disk or the mount."
        raise SourceUnavailable(self.describe(), found, remedy)


@dataclass(frozen=True, slots=True)
class _Level:
    folder: str
    """As the operating system names it."""
    prefix: str
    """Its path in the source, '' or ending in '/'."""
    stored: str
    """The same, as the folder names it."""
    linked: bool
    """Reached through a symlink."""


def _walk_folder(root: str, wanted: Patterns) -> Iterator[tuple[SourceFile, str]]:
    real_root = os.path.realpath(root)
    levels = [_Level(root, "", "", False)]
    while levels:
        level = levels.pop()
        try:
            with os.scandir(level.folder) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError as error:
            path = level.prefix.rstrip("/")
            yield _problem(path, f"the folder cannot be read: {error.strerror}"), path
            continue
        for entry in entries:
            name, problem = _readable_name(entry.name)
            path, stored = level.prefix + name, level.stored + entry.name
            try:
                linked = entry.is_symlink()
                if linked and problem is None:
                    problem = _link_problem(entry, level, real_root)
                if problem is None and entry.is_dir():
                    if not wanted.skips_folder(path):
                        levels.append(_Level(entry.path, f"{path}/", f"{stored}/", level.linked or linked))
                    continue
                if not _is_wanted(entry, path, wanted):
                    continue
                facts = entry.stat(follow_symlinks=problem is None)
            except FileNotFoundError:
                continue  # deleted while we were looking
            except OSError as error:
                yield _problem(path, f"cannot be looked at: {error.strerror}"), stored
                continue
            if problem is None and not stat.S_ISREG(facts.st_mode):
                problem = f"is a {_kind(facts.st_mode)}, not a file"
            if problem is None and not os.access(entry.path, os.R_OK):
                problem = f"user {os.geteuid()} has no permission to read it"
            yield SourceFile(path=path, size=facts.st_size, modified_ns=facts.st_mtime_ns, problem=problem), stored


def _is_wanted(entry: "os.DirEntry[str]", path: str, wanted: Patterns) -> bool:
    """A folder that cannot be entered is always worth a word: nobody knows what is below it."""
    try:
        folder = entry.is_dir()
    except OSError:
        folder = False
    return not wanted.skips_folder(path) if folder else wanted.match(path)


def _link_problem(entry: "os.DirEntry[str]", level: _Level, real_root: str) -> str | None:
    try:
        target = os.path.realpath(entry.path, strict=True)
        folder = entry.is_dir()
    except FileNotFoundError:
        return "the symlink is broken: its target does not exist"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "the symlink leads back to itself"
        return f"the symlink cannot be followed: {error.strerror}"
    if not _is_inside(target, real_root):
        return "the symlink leaves the source folder"
    if folder and _is_inside(os.path.realpath(level.folder), target):
        return "the symlink leads back to a folder that contains it"
    if folder and level.linked:
        # Every path would otherwise branch at each link: a few dozen of them name more files than any disk has.
        return "a symlinked folder inside a symlinked folder is not followed"
    return None


def _plain_mode(folder: str, name: str) -> int | None:
    """The mode of a file of which no part of the name leads elsewhere; None where that takes a closer look.

    Looking at its own parts is enough, where the folder's is known.
    """
    path, mode = folder, None
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return None
        path = f"{path}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return None
        if stat.S_ISLNK(mode):
            return None
    return mode


def _is_inside(real: str, real_root: str) -> bool:
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
    )
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "special file")


def _readable_name(name: str) -> tuple[str, str | None]:
    """The name in NFC; one that is not UTF-8 comes back with its bytes written out, and a problem."""
    if name.isascii():
        return name, None
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        return shown, "its name is not valid UTF-8; rename it"
    return unicodedata.normalize("NFC", name), None


def _problem(path: str, problem: str) -> SourceFile:
    return SourceFile(path=path, size=0, modified_ns=0, problem=problem)


def _distinct(files: Sequence[SourceFile]) -> Iterator[SourceFile]:
    """Two names that differ only in their Unicode normal form would be one document: the second is a problem."""
    taken = {file.path for file in files}
    previous = None
    for file in files:
        if file.path != previous:
            yield file
        else:
            number = next(n for n in range(2, len(files) + 2) if f"{file.path}~{n}" not in taken)
            taken.add(f"{file.path}~{number}")
            problem = file.problem or "another file has the same name in Unicode normal form; rename one"
            yield replace(file, path=f"{file.path}~{number}", problem=problem)
        previous = file.path


def without_credentials(url: str) -> str:
    """Neither user and password nor the query, which may hold keys too."""
    return re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
