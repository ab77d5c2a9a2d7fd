"""The one error tree. A class takes data and writes its own message: the thing, what was found, what to do.

    AiAssetsError
      UserError                  a mistake or an environment a person can mend: exit code 2, no traceback
        DeclarationInvalid       a file that a user wrote is wrong: each mistake with file, line and what to write
        SourceUnavailable        the documents cannot be reached
        ParserUnavailable        what reads files is not installed as it should be
        OcrUnavailable           the program that reads scanned pages, or its data of a language, is not installed
        ParserEnded              the process that reads files was ended at its start, also when it was tried again
        HomeUnusable             AI_ASSETS_HOME cannot be used (ai_assets/base/home.py)
        StateUnavailable         the state store does not answer, or is no database
        StateUnreadable          the state store can be read neither where it is nor as a copy
        StateTooNew              the state store was written by a newer version
        StateMoved               the state store was moved to another database
        StateArriving            the state store is being moved to this database, and is not whole
        StateUpgradeBlocked      the state store cannot be upgraded, because others read it all the time
        StateTooOld              the state store was written by an older version, and cannot be upgraded here
        DatasetDamaged           a file of the lake is missing or not what its manifest says
          DatasetAltered         a file of the lake does not hold the bytes that its name says
        DatasetTooNew            a manifest of the lake was written by a newer version
        LakeUnwritable           the lake cannot be written: disk full, read-only, permissions
        LeaseBusy                another process has been working on the same thing for too long
        LeaseLost                another process has taken over; this one must not write any more
        ExtensionUnusable        what a project wrote (a metric, a check ...) cannot be found, or is none
        OwnCodeFailed            it raised, or returned what it must not
        FileUnwritable           what a command should write to cannot be written
      IndexUnavailable           the search index failed (ai_assets/storage/index.py)

Each package continues the tree in an `errors.py` of its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from ai_assets.base.mistakes import Mistake, told
from ai_assets.base.plural import plural

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Else = TypeVar("_Else")


def said_of(error: BaseException) -> str:
    """An error of somebody else's code, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class AiAssetsError(Exception):
    """The root: everything we raise on purpose."""

    def __reduce__(self) -> "tuple[object, ...]":
        """Sent to another process as it is: a class writes its sentence from data that the error does not keep."""
        return _received, (type(self), self.args, vars(self))


def _received(kind: type[AiAssetsError], args: tuple[object, ...], state: dict[str, object]) -> AiAssetsError:
    found = kind.__new__(kind, *args)
    vars(found).update(state)
    return found


class UserError(AiAssetsError):
    """Shown as one message, without a traceback; the command ends with exit code 2."""

    passes = False
    """Whether it may go away by itself. What watches the source runs such a partition again, after a while."""


class DeclarationInvalid(UserError):
    """`further` are the other mistakes of the file, and of the files that it names."""

    def __init__(self, path: Path, line: int | None, problem: str, *, further: Sequence[Mistake] = ()) -> None:
        self.mistakes = (Mistake(path, line, problem), *further)
        super().__init__(told(self.mistakes))

    @classmethod
    def of(cls, mistakes: Sequence[Mistake]) -> Self:
        """One error of them all; at least one."""
        first, *further = dict.fromkeys(mistakes)
        return cls(first.path, first.line, first.problem, further=further)


class Gathered:
    """Collects the errors of checks that do not depend on each other, to raise them as one."""

    def __init__(self) -> None:
        self.errors: list[DeclarationInvalid] = []

    def attempt(self, otherwise: _Else, check: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | _Else:
        """What the check returns, or `otherwise` where it finds a mistake."""
        try:
            return check(*args, **kwargs)
        except DeclarationInvalid as error:
            self.errors.append(error)
            return otherwise

    def refuse(self, invalid: type[DeclarationInvalid], first: Path | None = None) -> None:
        """Raises what was found. `invalid` is the class of errors of several classes; `first` the file told first."""
        if not self.errors:
            return
        kinds = {type(error) for error in self.errors}
        if len({error.mistakes for error in self.errors}) == 1:
            raise self.errors[0]
        kind = kinds.pop() if len(kinds) == 1 else invalid
        mistakes = [mistake for error in self.errors for mistake in error.mistakes]
        raise kind.of(sorted(mistakes, key=lambda mistake: mistake.path != first))


class SourceUnavailable(UserError):
    passes = True

    def __init__(self, source: str, found: str, remedy: str) -> None:
        super().__init__(f"Source {source}: {found}. {remedy}")


class ParserUnavailable(UserError):
    def __init__(self, program: str, found: str, package: str) -> None:
        super().__init__(
            f"The process that {_DUTIES[program]} did not start: {found}. "
            f"Reinstall what it needs with: pip install --force-reinstall {package}"
        )


class OcrUnavailable(UserError):
    """`language`: the one whose data is missing; None where the program itself is."""

    def __init__(self, language: str | None) -> None:
        missing = "the program tesseract" if language is None else f"tesseract's data of the language '{language}'"
        package = f"tesseract-ocr{'' if language is None else '-' + language.replace('_', '-').lower()}"
        super().__init__(
            f"Reading scanned pages takes {missing}, which is missing: apt-get install {package}, "
            "or take source.ocr out of defs.yaml."
        )


class ParserEnded(UserError):
    def __init__(self, program: str, causes: Sequence[str]) -> None:
        killed = any("SIGKILL" in cause for cause in causes)
        remedy = (
            "SIGKILL is what the system sends when memory is short: give this machine or container more, or run fewer "
            "things beside it"
            if killed
            else "Try it by hand with: python -c 'import markitdown, pyarrow.parquet'"
        )
        super().__init__(
            f"The process that {_DUTIES[program]} ended while it started, "
            f"{plural(len(causes), 'time')}: {'; '.join(causes)}. "
            f"{remedy}. Then run again; what was done stays done."
        )


_DUTIES = {
    "parse_worker.py": "converts pdf and html",
    "parse_format_worker.py": "reads docx, pptx, xlsx, epub, odt, eml and xml",
    "parse_table_worker.py": "reads csv, jsonl and parquet",
}


class StateUnavailable(UserError):
    passes = True

    def __init__(self, store: str, found: str) -> None:
        self.store, self.found = store, found
        super().__init__(
            f"State store {store}: {found}. Check AI_ASSETS_STATE_URL or AI_ASSETS_HOME; nothing was changed."
        )


class StateUnreadable(UserError):
    def __init__(self, store: Path, found: str) -> None:
        super().__init__(
            f"State store {store}: {found}. Free some space, or set TMPDIR to a folder that can be written; nothing "
            "was changed."
        )


class StateTooOld(UserError):
    def __init__(self, store: str, migration: str) -> None:
        super().__init__(
            f"State store {store} was written by an older version (it has no '{migration}'), and cannot be upgraded "
            "where it cannot be written. Run any command once where it can be, such as: ai-assets status"
        )


class StateTooNew(UserError):
    def __init__(self, store: str, migration: str) -> None:
        super().__init__(
            f"State store {store} was written by a newer version (it has '{migration}', unknown here). "
            "Install that version, or point AI_ASSETS_HOME at another folder; nothing was changed."
        )


class StateMoved(UserError):
    def __init__(self, store: str, place: str) -> None:
        super().__init__(
            f"State store {store} was moved to {place}, and is no longer used. Set AI_ASSETS_STATE_URL to that address "
            "(with its password); nothing was changed."
        )


class StateArriving(UserError):
    def __init__(self, store: str, place: str) -> None:
        super().__init__(
            f"State store {store} is being moved there from {place}, and is not whole. If nothing does so any more, "
            "finish it from the old address: ai-assets migrate-state --to THIS-ADDRESS"
        )


class StateUpgradeBlocked(UserError):
    passes = True

    def __init__(self, store: str, waited_s: float) -> None:
        super().__init__(
            f"State store {store} must be upgraded, and others have read in it without a pause for {waited_s:.0f} s. "
            "Try again; if it stays so, stop what reads there (ai-assets up, long reports). Nothing was changed."
        )


class DatasetDamaged(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"Dataset file {path}: {found}. Remove the folder {path.parent} and run its partition again; "
            "it is made again from the source."
        )


class DatasetAltered(DatasetDamaged):
    """`found` is the SHA-256 that the file has now."""

    def __init__(self, path: Path, found: str) -> None:
        self.path, self.found = path, found
        UserError.__init__(
            self,
            f"Dataset file {path} was altered: its SHA-256 is {found}, and it should be the one in its name. Nothing "
            "of it was used. Run its partition again, by name (ai-assets run COLLECTION --partition P): the file is "
            "made again. What is no longer made, such as an older release's file, comes from a backup.",
        )


class DatasetTooNew(UserError):
    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"Dataset file {path} was written by a newer version (format {found}; this one reads up to {known}). "
            "Install that version, or point AI_ASSETS_HOME at another folder; nothing was changed."
        )


class LakeUnwritable(UserError):
    passes = True

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"Cannot write to {folder}: {error.strerror or error}. Free some space or mend the permissions and run "
            "again; what was there before is still readable."
        )


class LeaseBusy(UserError):
    passes = True

    def __init__(self, name: str, holder: str, waited_s: float) -> None:
        self.holder = holder
        super().__init__(f"'{name}' has been held by {holder} for {waited_s:.0f} s. Wait for it to end, or stop it.")


class LeaseLost(UserError):
    """Ends the whole piece of work, once: no partition is tried after it."""

    def __init__(self, name: str = "its work") -> None:
        super().__init__(
            f"Another process has taken over {name} from this one, which had not renewed its lease in time (was it "
            "suspended, or cut off from the state store?); answers that were on their way are in the ledger, nothing "
            "else was sent or written. See how the other process gets on: ai-assets status"
        )


class ExtensionUnusable(UserError):
    def __init__(self, kind: str, reference: str, found: str) -> None:
        super().__init__(f"the {kind} '{reference}' cannot be used: {found}")
        self.found = found


class OwnCodeFailed(UserError):
    def __init__(self, kind: str, reference: str, found: str) -> None:
        super().__init__(f"the {kind} {reference} failed: {found}. It is the project's own code; fix it there.")


class FileUnwritable(UserError):
    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written ({error.strerror}). Name another file, or make its folder first.")
