"""`ai-assets new`: a collection scaffolded from a folder, with its guesses explained in comments."""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.output import console, home, stores
from ai_assets.collection.loading import COMPONENT_TYPE, DEFS_FILE, check_name, load_collection
from ai_assets.collection.partitions import PartitionScheme, Unassigned
from ai_assets.collection.settings import PartitionSettings
from ai_assets.documents.parse import format_of
from ai_assets.documents.source import Source, SourceFile
from ai_assets.errors import CollectionExists, NothingToScaffold

ENOUGH = 0.8
"""Share of files that must carry a date, or lie in a folder, before partitions are guessed from it."""
MOST_FOLDERS = 200
DOCUMENTS_PER_SHARD = 1000


@dataclass(frozen=True)
class Guess:
    """The partitions that fit the files, and why."""

    lines: list[str]
    reason: str


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case name; it becomes the folder and the group.")],
    source: Annotated[str, typer.Option("--from", metavar="PATH", help="Folder or s3:// URL with the documents.")],
) -> None:
    """Scaffold collections/NAME/defs.yaml from what lies in a folder. The documents stay where they are."""
    check_name(name)
    root = home().project / "collections"
    path = root / name / DEFS_FILE
    if path.exists():
        raise CollectionExists(path)
    where = source if "://" in source else str(Path(source).expanduser().resolve())
    files = list(Source.at(where).list(("**/*",), ()))
    formats = Counter(str(found) for file in files if (found := format_of(file.path)) is not None)
    if not formats:
        raise NothingToScaffold(where, len(files))
    guess = _guess(name, files)
    unknown = _unknown_author(_approvers(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_defs(name, where, formats, len(files), guess, unknown), encoding="utf-8")
    load_collection(root, name)
    console.print(f"Wrote {path}: {sum(formats.values())} document files, {guess.reason}.")
    console.print(f"Read it, then:  ai-assets run {name}")


def _guess(name: str, files: list[SourceFile]) -> Guess:
    dated = _dates(name, files)
    if len(dated) >= ENOUGH * len(files):
        first, last = min(dated), max(dated)
        return Guess(
            [
                "  by: day",
                f"  start: {first}",
                f"  # end: {last}        # without an end the partitions go on to today",
            ],
            f"partitioned by day ({len(dated)} of {len(files)} paths carry a date)",
        )
    folders = {file.path.partition("/")[0] for file in files if "/" in file.path}
    inside = sum("/" in file.path for file in files)
    if inside >= ENOUGH * len(files) and 1 < len(folders) <= MOST_FOLDERS:
        return Guess(["  by: folder"], f"partitioned by folder ({len(folders)} of them)")
    count = max(1, -(-len(files) // DOCUMENTS_PER_SHARD))
    return Guess(
        ["  by: shards", f"  count: {count}      # fixed: another number moves documents between shards"],
        f"in {count} shard(s) (no dates in the paths, no folders to go by)",
    )


def _dates(name: str, files: list[SourceFile]) -> list[date]:
    scheme = PartitionScheme(name, PartitionSettings(by="day", start=date(1900, 1, 1), end=date(2199, 12, 31)))
    found = []
    for file in files:
        try:
            found.append(date.fromisoformat(scheme.key_for(file.path)))
        except Unassigned:
            continue
    return found


def _approvers(name: str) -> int:
    """How many people of the store may approve in the new collection."""
    from ai_assets.signoff import people

    with stores().state.read() as connection:
        known = [people.find(connection, account.name) for account in people.everyone(connection)]
    return sum(person is not None and person.may("approver", name) for person in known)


def _unknown_author(approvers: int) -> str:
    """The rule for runs that nobody is proved to have started; where there are two approvers, the stricter one."""
    if approvers < 2:
        return "    # unknown_author: two    # once there are two approvers: both, where it is not known who ran it\n"
    return "    unknown_author: two      # both, where it is not known who started the run (ai-assets run --by NAME)\n"


def _defs(name: str, where: str, formats: Counter[str], files: int, guess: Guess, unknown: str) -> str:
    found = ", ".join(f"{number} {kind}" for kind, number in formats.most_common())
    quoted = '"' + where.replace("\\", "\\\\").replace('"', '\\"') + '"'
    partitions = "\n".join(f"  {line}" for line in guess.lines)
    tables = "".join(_table_lines(kind) for kind in ("csv", "jsonl", "parquet") if kind in formats)
    return f"""\
# Scaffolded by `ai-assets new {name}`: {files} files found ({found}).
# Every key is described in docs/collections.md. Check this file with: dg check defs
type: {COMPONENT_TYPE}
attributes:
  description: Documents of {name}.
  source:
    path: {quoted}
    # include: ["**/*.md"]      # glob patterns, relative to the path
    # exclude: ["drafts/**"]
{tables}\
  partitions:
{partitions}
  chunking:
    max_characters: 800
  # What to make of each document. Describe the labels as you would to a new colleague:
  # stages:
  #   - name: classification
  #     kind: classify
  #     labels:
  #       - {{name: invoice, description: A bill that asks for payment of an amount.}}
  #       - {{name: contract, description: An agreement between parties with terms and signatures.}}
  # Questions with known answers, measured after every refresh; a gate stops what falls below it:
  # golden: {{queries: golden/queries.jsonl, labels: golden/labels.jsonl}}
  # gates:
  #   - {{metric: recall@5, min: 0.9}}
  # Great Expectations suites, per asset:
  quality:
    documents:
      - {{expect: expect_column_values_to_be_unique, column: document_id}}
  signoff:
    approvals: 1
{unknown}  schedule:
    cron: "0 2 * * *"
    timezone: UTC
"""


def _table_lines(kind: str) -> str:
    return f"""\
    # Rows of {kind} files are documents; say which column identifies a row and which hold the text:
    # tables: {{{kind}: {{key: id, title: subject, text: [subject, body]}}}}
"""
