"""The Rego files of a collection: `policies/*.rego` in its folder and in the project, read anew whenever they count."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from ai_assets.base.mistakes import Mistake
from ai_assets.policy.documents import known_paths
from ai_assets.policy.rego_text import KEYWORDS, NamedAt, RegoText
from ai_assets.storage.digest import digest

Subject = Literal["publication", "spending", "access"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
FOLDER = "policies"
ROOT = "ai_assets"
LIBRARY = f"{ROOT}.lib"
TEST_ENDING = "_test"
PRINTS = frozenset({"print"})
"""It works, although the interpreter does not count it among its built-in functions."""


@dataclass(frozen=True)
class PolicyFile:
    path: Path
    text: str

    @cached_property
    def rego(self) -> RegoText:
        return RegoText(self.text)

    @property
    def package(self) -> str:
        return self.rego.package.name if self.rego.package else ""

    @property
    def is_test(self) -> bool:
        return self.package.endswith(TEST_ENDING) or self.path.stem.endswith(TEST_ENDING)

    @property
    def about(self) -> str:
        """The package without the ending of tests."""
        return self.package.removesuffix(TEST_ENDING)


@dataclass(frozen=True)
class PolicySet:
    """All files that hold for a collection, in the order of their paths; those of the project first."""

    files: tuple[PolicyFile, ...] = ()

    @classmethod
    def of(cls, collection: Path, project: Path) -> "PolicySet":
        folders = dict.fromkeys(folder.resolve() / FOLDER for folder in (project, collection))
        paths = [path for folder in folders for path in sorted(folder.glob("*.rego"))]
        return cls(tuple(PolicyFile(path, _text_of(path)) for path in paths))

    def __bool__(self) -> bool:
        return bool(self.files)

    @cached_property
    def digest(self) -> str:
        """Of what decides: tests do not, nor where the files lie."""
        return digest(sorted([file.package, file.text] for file in self.files if not file.is_test))

    @cached_property
    def broken(self) -> tuple[Mistake, ...]:
        """What its text shows to be wrong: a policy of which nobody knows what it meant to forbid denies all."""
        return tuple(self.mistakes())

    def judges(self, subject: Subject) -> bool:
        """Whether there is anything to ask about it."""
        return bool(self.broken) or any(file.package == f"{ROOT}.{subject}" and not file.is_test for file in self.files)

    @cached_property
    def deciding(self) -> tuple[PolicyFile, ...]:
        return tuple(file for file in self.files if not file.is_test)

    @cached_property
    def functions(self) -> frozenset[str]:
        """Every function that is called and not defined in these files: those that the interpreter must have."""
        return frozenset(call.name for file in self.files for call in _foreign_calls(file, self.files))

    def mistakes(self, unknown: Sequence[str] = ()) -> Iterator[Mistake]:
        """What is wrong with the files, as far as their text shows. `unknown`: functions that nobody has."""
        for file in self.files:
            yield from _package_mistakes(file, self.files)
            for call in _foreign_calls(file, self.files):
                if call.name in unknown:
                    yield Mistake(file.path, call.line, f"there is no function '{call.name}' here{_no_network(call)}")
            yield from _read_mistakes(file)
            yield from _undefined(file, self.files)
            for test in file.rego.tests():
                if test.problem:
                    yield Mistake(file.path, test.line, f"the test {test.name} cannot be run: {test.problem}")


def _text_of(path: Path) -> str:
    """Nothing of what cannot be read: then it has no package, which denies."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _no_network(call: NamedAt) -> str:
    return ": a policy sees its input and nothing else" if call.name.startswith(("http.", "net.")) else ""


def _package_mistakes(file: PolicyFile, files: Sequence[PolicyFile]) -> Iterator[Mistake]:
    package = file.rego.package
    known = [f"{ROOT}.{subject}" for subject in SUBJECTS]
    if package is None:
        yield Mistake(
            file.path, 1, f"it has no package; write one of: {', '.join(f'package {name}' for name in known)}"
        )
        return
    if file.about not in known and not f"{file.about}.".startswith(f"{LIBRARY}."):
        near = difflib.get_close_matches(file.about, known, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        yield Mistake(
            file.path, package.line,
            f"nothing asks the package '{package.name}': rules are in {', '.join(known)}, what they share in "
            f"{LIBRARY}.*, tests in a package or file that ends in {TEST_ENDING}.{hint}",
        )  # fmt: skip
    elif file.package in known and not file.is_test:
        same = [each for each in files if each.package == file.package and not each.is_test]
        if not any(rule.name == "deny" for each in same for rule in each.rego.rules):
            yield Mistake(file.path, package.line, f"{file.package} has no rule `deny contains message if {{ ... }}`")


def _foreign_calls(file: PolicyFile, files: Sequence[PolicyFile]) -> Iterator[NamedAt]:
    own = {rule.name for each in files if each.about == file.about for rule in each.rego.rules}
    for call in file.rego.calls():
        first = call.name.partition(".")[0]
        defined = "." not in call.name and call.name in own
        if not (defined or first in file.rego.imported or first in KEYWORDS or call.name in PRINTS):
            yield call


def _read_mistakes(file: PolicyFile) -> Iterator[Mistake]:
    """A path that the input never has is undefined, and a rule about it never holds."""
    subject = file.about.removeprefix(f"{ROOT}.")
    known = known_paths(subject if subject in SUBJECTS else None)
    for read in file.rego.reads():
        if read.name not in known and not any(read.name.startswith(f"{path}.") for path in known if known[path]):
            near = difflib.get_close_matches(read.name, list(known), 1)
            hint = f"; did you mean 'input.{near[0]}'?" if near else ""
            yield Mistake(file.path, read.line, f"there is no 'input.{read.name}'{hint} (docs/policy.md)")


def _undefined(file: PolicyFile, files: Sequence[PolicyFile]) -> Iterator[Mistake]:
    """A name that stands in one place only is defined nowhere: Rego takes it for undefined, and says nothing."""
    words = list(file.rego.words())
    times = Counter(word.name for word in words)
    rules = {rule.name for each in files if each.about == file.about for rule in each.rego.rules}
    calls = {call.name.partition(".")[0] for call in file.rego.calls()}
    known = rules | calls | file.rego.imported | {"input", "data"}
    for word in words:
        if times[word.name] == 1 and word.name not in known:
            yield Mistake(file.path, word.line, f"nothing defines '{word.name}', so what needs it never holds")
