"""What lies in a folder or bucket before it is a collection: which files are documents, and why the others are not.

By names alone, so that a hundred thousand files take a second or two; which kinds can be read is `parse.format_of`'s
business.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os.path import splitext

from ai_assets.documents.parse import format_of
from ai_assets.documents.source import SourceFile

MOST_FILES = 300_000
"""Looked at; a larger source is described by its first files."""
TELL_EVERY = 20_000
MOST_NAMES = 40
"""Of files without an extension, listed one by one in `include`."""
MOST_KINDS = 12
"""Skipped kinds that are named; the others are counted together."""
_LONGEST_EXTENSION = 12


@dataclass(frozen=True, kw_only=True)
class SkippedKind:
    """Files that are no documents, for one and the same reason."""

    kind: str
    why: str
    number: int
    example: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Files of a source, before anything of them is read."""

    files: int
    documents: tuple[SourceFile, ...]
    """In order of their paths."""
    formats: Sequence[tuple[str, int]]
    """Of the documents, the most frequent first."""
    include: tuple[str, ...]
    """Patterns that match the documents and, but for chance, nothing else."""
    skipped: Sequence[SkippedKind]
    """The most frequent first."""
    unreadable: Sequence[tuple[str, int]]
    """Why some documents will be quarantined, as far as their names and sizes tell."""
    is_whole: bool
    """False where there are more files than were looked at."""

    @property
    def skipped_files(self) -> int:
        return sum(each.number for each in self.skipped)


def survey(files: Iterable[SourceFile], tell: Callable[[int], None], most: int = MOST_FILES) -> Survey:
    """Look at every file, at most `most` of them; `tell` hears how many it were, every few thousand."""
    documents: list[SourceFile] = []
    formats: Counter[str] = Counter()
    skipped: dict[tuple[str, str], list[str]] = {}
    numbers: Counter[tuple[str, str]] = Counter()
    seen, whole = 0, True
    for file in files:
        if seen == most:
            whole = False
            break
        seen += 1
        if seen % TELL_EVERY == 0:
            tell(seen)
        if (kind := format_of(file.path)) is not None:
            documents.append(file)
            formats[kind] += 1
        else:
            reason = _reason(file)
            numbers[reason] += 1
            skipped.setdefault(reason, [file.path])
    documents.sort(key=lambda file: file.path)
    return Survey(
        files=seen,
        documents=tuple(documents),
        formats=formats.most_common(),
        include=_patterns(documents),
        skipped=[
            SkippedKind(kind=kind, why=why, number=number, example=skipped[kind, why][0])
            for (kind, why), number in numbers.most_common()
        ],
        unreadable=_unreadable(documents),
        is_whole=whole,
    )


def _reason(file: SourceFile) -> tuple[str, str]:
    """What kind of file it is, and why it is no document."""
    if file.problem is not None:
        return "of any kind", file.problem
    extension = _extension(file.path)
    if not extension:
        return "(no extension)", "the name does not say what it is"
    return extension, "no format that can be read"


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _extension(path: str) -> str:
    """The last one, in lower case; what is as long as a word, or a number, is a part of the name."""
    found = splitext(_name(path))[1].lower()
    return found if 1 < len(found) <= _LONGEST_EXTENSION and not found[1:].isdigit() else ""


def _patterns(documents: Sequence[SourceFile]) -> tuple[str, ...]:
    """By extension, as it is written; by name where the extension does not decide."""
    by_extension: set[str] = set()
    names: Counter[str] = Counter()
    for file in documents:
        name = _name(file.path)
        extension = _deciding(name)
        if extension is not None:
            by_extension |= {extension, extension.lower()}
        else:
            names[name] += 1
    if len(names) > MOST_NAMES:
        return ("**/*",)
    return (*(f"**/*{each}" for each in sorted(by_extension)), *(f"**/{_literal(name)}" for name in sorted(names)))


def _deciding(name: str) -> str | None:
    """The shortest end of a name, from a dot on, that says its format by itself; None where the whole name does."""
    kind, end = format_of(name), len(name)
    while (dot := name.rfind(".", 0, end)) > 0:
        if format_of(f"x{name[dot:]}") == kind:
            return name[dot:]
        end = dot
    return None


def _literal(name: str) -> str:
    """As a pattern that matches this name alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _unreadable(documents: Sequence[SourceFile]) -> Sequence[tuple[str, int]]:
    found: Counter[str] = Counter()
    for file in documents:
        if file.problem is not None:
            found[file.problem] += 1
        elif not file.size:
            found["empty"] += 1
    return found.most_common()
