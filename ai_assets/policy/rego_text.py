"""What can be told of Rego without evaluating it: package, rules, functions that are called, what of the input is read,
and the input that a test names.

Rego takes what is not there for "undefined", and a rule about it never holds: a misspelt name would allow what it was
written to forbid. So names are held against what exists before a policy is believed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ai_assets.base.plural import plural

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?P<comment>\#[^\n]*)|(?P<line>\n)|(?P<space>[ \t\r]+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>\d[\d.eE]*)|(?P<mark>:=|==|!=|<=|>=|.)""",
    re.VERBOSE,
)
KEYWORDS = frozenset(
    "package import as if else not in some every with contains default true false null input data set _".split()
)
OPENING, CLOSING = "([{", ")]}"
_BETWEEN = ("space", "comment")


class RegoToken(NamedTuple):
    kind: str
    text: str
    at: int
    """Offset in the file."""
    line: int
    depth: int
    """Of brackets around it."""


@dataclass(frozen=True)
class NamedAt:
    name: str
    line: int


@dataclass(frozen=True)
class RegoTest:
    """A `test_` rule, with the one term that its `with input as` names; None where it names none."""

    name: str
    line: int
    given: str | None
    problem: str | None = None
    """Why it cannot be run here."""


class RegoText:
    """One file."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def tokens(self) -> Sequence[RegoToken]:
        found, line, depth = [], 1, 0
        for match in _TOKEN.finditer(self.text):
            kind, text = match.lastgroup or "mark", match.group()
            depth -= kind == "mark" and text in CLOSING
            found.append(RegoToken(kind, text, match.start(), line, depth))
            depth += kind == "mark" and text in OPENING
            line += text.count("\n")
        return [token for token in found if token.kind not in _BETWEEN]

    @cached_property
    def _written(self) -> Sequence[RegoToken]:
        return [token for token in self.tokens if token.kind != "line"]

    @property
    def package(self) -> NamedAt | None:
        for at, token in enumerate(self._written):
            if token.text == "package" and token.kind == "word":
                name = self._chain(self._written, at + 1)
                return NamedAt(name, token.line) if name else None
        return None

    @property
    def imports(self) -> Sequence[str]:
        return [line.strip() for line in self.text.splitlines() if line.lstrip().startswith("import ")]

    @property
    def imported(self) -> frozenset[str]:
        """The names that imports give."""
        return frozenset(re.split(r"[.\s]+", line)[-1] for line in self.imports)

    @cached_property
    def rules(self) -> Sequence[NamedAt]:
        """Names at the beginning of a line outside of brackets."""
        found, fresh = [], True
        for token in self.tokens:
            heads = fresh and token.depth == 0 and token.kind == "word"
            if heads and token.text not in KEYWORDS - {"default"}:
                found.append(token)
            fresh = token.kind == "line" or (fresh and token.text == "default")
        return [NamedAt(token.text, token.line) for token in found if token.text != "default"]

    def calls(self) -> Iterator[NamedAt]:
        """Functions by their whole name."""
        yield from (NamedAt(name, token.line) for token, name, follows in self._chains() if follows == "(")

    def reads(self) -> Iterator[NamedAt]:
        """What of the input is read, as a path with dots."""
        for token, name, _ in self._chains():
            if token.text == "input" and "." in name:
                yield NamedAt(name.removeprefix("input."), token.line)

    def words(self) -> Iterator[NamedAt]:
        """Every plain name, where it stands: not after a dot, and no head of an import or a package."""
        skipped = {token.line for token in self._written if token.text in ("package", "import")}
        for token, _, _ in self._chains():
            if token.line not in skipped and token.text not in KEYWORDS:
                yield NamedAt(token.text, token.line)

    def _chains(self) -> Iterator[tuple[RegoToken, str, str]]:
        written = self._written
        for at, token in enumerate(written):
            after_dot = at > 0 and written[at - 1].text == "." and _touches(written[at - 1], token)
            if token.kind == "word" and not after_dot:
                name = self._chain(written, at)
                end = at + 2 * name.count(".") + 1
                follows = written[end] if end < len(written) else None
                touches = follows is not None and _touches(written[end - 1], follows)
                yield token, name, follows.text if follows is not None and touches else ""

    @staticmethod
    def _chain(written: Sequence[RegoToken], at: int) -> str:
        parts: list[str] = []
        while at < len(written) and written[at].kind == "word":
            parts.append(written[at].text)
            if not (at + 2 < len(written) and written[at + 1].text == "." and _touches(written[at], written[at + 1])):
                break
            at += 2
        return ".".join(parts)

    # Tests

    @cached_property
    def _withs(self) -> Sequence[tuple[int, int, int, str, str]]:
        """Line, begin and end of each `with TARGET as TERM`, target and term."""
        found, tokens = [], self.tokens
        for at, token in enumerate(tokens):
            if token.text == "with" and token.kind == "word":
                name, term = token, at + 1
                while term < len(tokens) and tokens[term].text != "as":
                    term += 1
                end = self._term_end(term + 1, token.depth)
                target = "".join(each.text for each in tokens[at + 1 : term])
                begin = tokens[term + 1].at if term + 1 < len(tokens) else len(self.text)
                found.append((name.line, name.at, end, target, self.text[begin:end].strip()))
        return found

    def _term_end(self, at: int, depth: int) -> int:
        for token in self.tokens[at:]:
            closes = token.text in CLOSING and token.depth < depth
            if token.depth <= depth and (closes or token.kind == "line" or token.text in (";", "with")):
                return token.at
        return len(self.text)

    @cached_property
    def without_inputs(self) -> str:
        """The same with every `with` blanked out, on the same lines."""
        text = self.text
        for _, begin, end, _, _ in self._withs:
            blank = "".join("\n" if letter == "\n" else " " for letter in text[begin:end])
            text = text[:begin] + blank + text[end:]
        return text

    def tests(self) -> Iterator[RegoTest]:
        rules = list(self.rules)
        for number, rule in enumerate(rules):
            if rule.name.startswith("test_"):
                after = rules[number + 1].line if number + 1 < len(rules) else 1 << 30
                used = [each for each in self._withs if rule.line <= each[0] < after]
                yield self._test(rule, used)

    @staticmethod
    def _test(rule: NamedAt, used: Sequence[tuple[int, int, int, str, str]]) -> RegoTest:
        given = list(dict.fromkeys(term for _, _, _, _, term in used))
        problem = None
        if any(target != "input" for _, _, _, target, _ in used):
            problem = "it replaces something else than the whole input; write `with input as ...`"
        elif len(given) > 1:
            problem = f"it names {plural(len(given), 'input')}; a test has one, so make it {plural(len(given), 'test')}"
        return RegoTest(rule.name, rule.line, given[0] if given and problem is None else None, problem)


def _touches(before: RegoToken, after: RegoToken) -> bool:
    return before.at + len(before.text) == after.at
