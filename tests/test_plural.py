"""Claims about a number before a noun: one of it is not said in the plural, in any sentence of the program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

from ai_assets.base.plural import plural

NOUNS = """answers approvals approvers attempts backups batches bytes calls cells characters collections columns days
devices documents errors events fields files folders golden groups hits inputs items kinds labels lines messages
mistakes models months numbers outputs pages partitions passages people places points processes queries questions
ratings records releases requests results rows runs scores spans stages steps tables tasks tests texts tokens values
vectors words""".split()
AS_IT_IS = {
    "ai_assets/documents/parse_text.py": "is kept in the rows of a release",
    "ai_assets/rehearsal/": "imitates the sentences of other servers",
    "ai_assets/evaluation/profile.py": "names what is kept and compared with later",
    "ai_assets/run/provenance_signed.py": "is signed, and kept",
    "ai_assets/signoff/candidate.py": "is hashed",
    "ai_assets/signoff/verify_statement.py": "is given away, and imports nothing of ours",
    "ai_assets/signoff/verify_proof.py": "is given away, and imports nothing of ours",
    "ai_assets/stages/summarise.py": "is sent to models: other words are another call. It is more than one",
}
NO_NUMBERS = {
    "declared.asset", "gate.metric", "kind", "kind.capitalize()", "lane.priority", "made.backfill", "model", "name",
    "priority", "promised.version", "tally.kind", "whose",
}  # fmt: skip
"""Expressions that hold a word, or a number that counts nothing."""
A_CONSTANT = re.compile(r"(\w+\.)*_?[A-Z][A-Z0-9_]+( [+-] 1)?")
"""It is more than one, or the sentence says so."""


OF_PAGES = {"costs.html: }} days", "request.html: }} words"}
"""Where it is never one, or the word is of something else."""


def sentences(path: Path) -> Iterator[tuple[int, str, str]]:
    """Of each value in an f-string: its line, its expression, and the text that follows."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                whole = isinstance(value, ast.FormattedValue) and not re.search(r"\.\d|[%g]", _spec(value))
                if whole and isinstance(after, ast.Constant) and isinstance(value, ast.FormattedValue):
                    yield value.lineno, ast.unparse(value.value), str(after.value)


def _spec(value: ast.FormattedValue) -> str:
    return "" if value.format_spec is None else ast.unparse(value.format_spec)


FOLLOWED = re.compile(rf" (?:(?!of|that|with|and|no|in)[a-z-]+ )?({'|'.join(NOUNS)})\b")


def test_no_sentence_puts_a_number_before_a_plural_by_itself() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {{{expression}}}{after[:40]!r}"
        for path in sorted((REPOSITORY / "ai_assets").rglob("*.py"))
        for line, expression, after in sentences(path)
        if FOLLOWED.match(after) and not A_CONSTANT.fullmatch(expression) and expression not in NO_NUMBERS
        if not any(str(path.relative_to(REPOSITORY)).startswith(place) for place in AS_IT_IS)
    ]
    assert found == [], "use ai_assets.base.plural, or say why not in AS_IT_IS:\n" + "\n".join(found)


BY_HAND = re.compile(r"""(['"])(?P<one>\w*)[\w ]*\1 if [^{}]+ == 1 else \1(?:(?P=one)(?:s|es)|s|es)\b""")
KEPT = {"ai_assets/checks/quality.py": "is kept with the results of a check"}


def test_no_plural_is_made_by_hand() -> None:
    paths = {str(path.relative_to(REPOSITORY)): path for path in sorted((REPOSITORY / "ai_assets").rglob("*.py"))}
    found = {name for name, path in paths.items() if BY_HAND.search(path.read_text(encoding="utf-8"))}
    assert found == KEPT.keys()


def test_no_page_of_the_desk_does_either() -> None:
    shown = re.compile(r"\}\} (?:more |golden )?(" + "|".join(NOUNS) + r")\b")
    found = [
        f"{path.name}:{number}: {line[max(0, match.start() - 60) : match.end() + 20]}"
        for path in sorted((REPOSITORY / "ai_assets" / "desk" / "templates").rglob("*.html"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in shown.finditer(line)
        if f"{path.name}: {match.group(0)}" not in OF_PAGES
    ]
    assert found == [], "use plural():\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("document",), "0 documents"),
        (1, ("golden query",), "1 golden query"),
        (2, ("golden query",), "2 golden queries"),
        (2, ("day",), "2 days"),
        (1_200, ("batch",), "1,200 batches"),
        (1, ("partition waits", "partitions wait"), "1 partition waits"),
        (3, ("partition waits", "partitions wait"), "3 partitions wait"),
    ],
)
def test_one_is_one(count: int, words: tuple[str, ...], said: str) -> None:
    assert plural(count, *words) == said
