"""What is wrong in files that a user writes: every mistake with its place, told together and in order of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.plural import plural

MOST_SHOWN = 20
"""A file of another format is wrong on every line, and the first ones say so."""


class Line(int):
    """A line of a file that knows its column, too. Both count from 1."""

    column: int

    @classmethod
    def at(cls, line: int, column: int) -> "Line":
        found = cls(line)
        found.column = column
        return found


@dataclass(frozen=True)
class Mistake:
    path: Path
    line: int | None
    problem: str

    @property
    def place(self) -> tuple[int, int]:
        return self.line or 0, self.line.column if isinstance(self.line, Line) else 0

    def __str__(self) -> str:
        column = f":{self.line.column}" if isinstance(self.line, Line) else ""
        return f"{self.path}{f':{self.line}{column}' if self.line else ''}: {self.problem}"


def told(mistakes: Sequence[Mistake]) -> str:
    """A single one in one line; of several, first how many there are, then one line for each."""
    if len(mistakes) == 1:
        only = mistakes[0]
        return f"{only.path}{f':{only.line}' if only.line else ''}: {only.problem}"
    paths = list(dict.fromkeys(mistake.path for mistake in mistakes))
    ordered = sorted(mistakes, key=lambda mistake: (paths.index(mistake.path), mistake.place))
    shown = [f"  {mistake}" for mistake in ordered[:MOST_SHOWN]]
    more = [f"  and {len(ordered) - MOST_SHOWN} more"] if len(ordered) > MOST_SHOWN else []
    return "\n".join([f"{', '.join(map(str, paths))}: {plural(len(ordered), 'mistake')}", *shown, *more])
