"""Commands that a document shows, typed in again, and what stands below them held against what they print.

A block of `console` in a document is typed into one folder per document, which begins as a checkout of the samples.
What has to be there before, and is not worth a reader's time, stands in a comment: `<!-- beforehand ... -->`.
To bring a document up to date: `.venv/bin/python tests/shown.py docs/tour.md`.
"""

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from warm import WarmCommand

ROOT = Path(__file__).parents[1]
DOCUMENTS = ROOT / "docs"
SAMPLES = ("collections", "dbt", "definitions.py", "inference.yaml", "resources", "sensors")
COMMANDS = Path(sys.executable).parent
PART = re.compile(r"^```console\n(?P<typed>.*?)^```$|^<!-- beforehand\n(?P<before>.*?)^-->$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"[|<>;&$`*(){}]|^\w+=")
PASSWORD = "a walk in the autumn rain"
CONFIRMED = "[y/N]: "
LEFT_OUT = "..."
ON_A_TERMINAL = re.compile(r"Password of \w+:")
DAY = r"20\d\d-\d\d-\d\d"
OF_THE_SAMPLES = r"(?!2026-10-[01])"
CHANGING = [
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "RUN"),
    (re.compile(r"\b\d{8}T\d{6}[.\dZ]*\b"), "TIME"),
    (re.compile(DAY + r"[T ]\d\d:\d\d(?::[\d.]+)?(?:[+-]\d\d:\d\d|Z)?"), "TIME"),
    (re.compile(OF_THE_SAMPLES + DAY), "DAY"),
    (re.compile(OF_THE_SAMPLES + r"20\d\d-\d\d\b"), "MONTH"),
    (re.compile(r"MONTH will likely come to .*"), "MONTH will likely come to MONEY"),
    (re.compile(r"(?<![$\d.])\d+\.\d\d(?!\d)"), "SECONDS"),
    (re.compile(r"\b(?:about )?\d+(?:\.\d+)? (?:s|ms|MiB|MB|bytes)\b"), "SO MUCH"),
    (re.compile(r"\b[0-9a-f]{8,64}\b"), "DIGEST"),
    (re.compile(r"until \w\w\w \d\d:\d\d"), "until THEN"),
    (re.compile(r"\b\d+-\d+ settled"), "ATTEMPT settled"),
    (re.compile(r"[A-Za-z0-9+/_-]{43,}=*"), "BYTES"),
]
"""Times, sizes, names that are drawn, and digests of what has a code version of this package in it."""


@dataclass(frozen=True)
class Command:
    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A block of commands; `start` and `end` are where it stands in the document."""

    commands: tuple[Command, ...]
    start: int
    end: int
    is_shown: bool


@dataclass(frozen=True)
class Printed:
    command: Command
    text: str
    code: int
    part: Part


def parts_of(document: str) -> list[Part]:
    return [_part(match) for match in PART.finditer(document)]


def typed(document: str, folder: Path, warm: WarmCommand) -> Iterator[Printed]:
    """Each command of the document in turn, with what it printed."""
    project = folder / "project"
    _begin(project)
    try:
        for part in parts_of(document):
            for command in part.commands:
                code, text = _run(command, project, warm)
                yield Printed(command, text.replace(str(project), "...").replace(str(folder), "..."), code, part)
    finally:
        _end(project)


def missing(shown: Sequence[str], printed: str) -> list[str]:
    """Lines of a document that were not printed, in this order."""
    lines = iter([as_compared(line) for line in printed.splitlines()])
    # `any` goes on where the line before was found
    return [line for line in map(as_compared, _held(shown)) if not any(_is_shown_as(each, line) for each in lines)]


def _is_shown_as(printed: str, shown: str) -> bool:
    return printed.startswith(shown.removesuffix(LEFT_OUT).rstrip()) if shown.endswith(LEFT_OUT) else printed == shown


def as_compared(line: str) -> str:
    for pattern, instead in CHANGING:
        line = pattern.sub(instead, line)
    return " ".join(re.sub(r"[─━]+", "─", line).split())


def brought_up_to_date(document: str, told: list[Printed]) -> str:
    """With what was printed instead of lines that differ from it in figures alone."""
    made, at = "", 0
    for part in parts_of(document):
        if part.is_shown:
            made += document[at : part.start]
            for each in told:
                if each.part == part:
                    made += "\n".join([f"$ {each.command.text}", *_replaced(each)]) + "\n"
            at = part.end
    return made + document[at:]


def _replaced(each: Printed) -> Iterator[str]:
    lines = [line.rstrip() for line in each.text.splitlines()]
    for shown in each.command.shown:
        found = next((n for n, line in enumerate(lines) if _alike(line) == _alike(shown)), None)
        if found is None or not _held([shown]):
            yield shown
        else:
            yield lines[found]
            lines = lines[found + 1 :]


def _alike(line: str) -> str:
    return re.sub(r"[\d.,]+", "0", as_compared(line))


def _held(shown: Sequence[str]) -> list[str]:
    return [
        line
        for line in shown
        if line.strip() and line.strip() != LEFT_OUT and not ON_A_TERMINAL.fullmatch(line.strip())
    ]


def _part(match: "re.Match[str]") -> Part:
    if (before := match["before"]) is not None:
        commands = [Command(line, ()) for line in before.replace("\\\n", "").splitlines() if line.strip()]
        return Part(tuple(commands), *match.span("before"), is_shown=False)
    commands = []
    for block in re.split(r"^\$ ", match["typed"], flags=re.MULTILINE)[1:]:
        first, *shown = block.removesuffix("\n").split("\n")
        while first.endswith("\\"):
            first += "\n" + shown.pop(0)
        commands.append(Command(first, tuple(shown)))
    return Part(tuple(commands), *match.span("typed"), is_shown=True)


def _begin(project: Path) -> None:
    project.mkdir(parents=True)
    for name in SAMPLES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, project / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "target", "logs")
            )
        else:
            shutil.copy(source, project / name)


def _end(project: Path) -> None:
    """What was started in the background."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(project):
                process.kill()


def _run(command: Command, project: Path, warm: WarmCommand) -> tuple[int, str]:
    environment = {
        "AI_ASSETS_PASSWORD": PASSWORD,
        "COLUMNS": "160",
        "HOME": str(project.parent),
        "LOGNAME": "ann",
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
        "TZ": "UTC",
    }
    line = command.text.replace("\\\n", "")
    line = re.sub(r"\s+#.*$", "", line)
    if any(CONFIRMED in shown for shown in command.shown):
        return _confirmed(line, project, environment)
    if line.startswith("ai-assets ") and not SHELL.search(line):
        words = shlex.split(line.replace(" ~/", f" {project.parent}/"))[1:]
        done = warm.run(words, cwd=project, env=environment, timeout_s=300, typed=PASSWORD)
        return done.returncode, done.stdout + done.stderr
    told = subprocess.run(
        ["bash", "-c", line], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    return told.returncode, told.stdout


def _confirmed(line: str, project: Path, environment: dict[str, str]) -> tuple[int, str]:
    """By somebody at a terminal, who says yes."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\n")
        told = subprocess.run(
            ["bash", "-c", line], cwd=project, env=environment, stdin=theirs, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    return told.returncode, told.stdout.replace(CONFIRMED, f"{CONFIRMED}y\n")


def main() -> None:
    warm = WarmCommand()
    for name in sys.argv[1:]:
        path = Path(name)
        document = path.read_text(encoding="utf-8")
        with TemporaryDirectory() as folder:
            told = []
            for each in typed(document, Path(folder), warm):
                told.append(each)
                print(f"$ {each.command.text}\n{each.text}", end="", flush=True, file=sys.stderr)
        made = brought_up_to_date(document, told)
        path.write_text(made, encoding="utf-8")
        left = [line for each in told if each.part.is_shown for line in missing(_now(made, each), each.text)]
        print("\n".join(["", f"{path}: lines that were not printed:", *left] if left else ["", f"{path}: up to date"]))
    warm.close()


def _now(document: str, told: Printed) -> tuple[str, ...]:
    return next(
        command.shown for part in parts_of(document) for command in part.commands if command.text == told.command.text
    )


if __name__ == "__main__":
    main()
