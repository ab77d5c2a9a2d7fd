"""The `defs.yaml` of a new collection: what fits the files of its source, with the guesses explained in comments."""

from collections import Counter
from dataclasses import dataclass
from datetime import date

from ai_assets.collection.builtins import VERSIONS, newest
from ai_assets.collection.loading import COMPONENT_TYPE
from ai_assets.collection.partitions import PartitionScheme, Unassigned
from ai_assets.collection.settings import PartitionSettings
from ai_assets.documents.source import SourceFile

ENOUGH = 0.8
"""Share of files that must carry a date, or lie in a folder, before partitions are guessed from it."""
MOST_FOLDERS = 200
DOCUMENTS_PER_SHARD = 1000


@dataclass(frozen=True)
class Guess:
    """The partitions that fit the files, and why."""

    lines: list[str]
    reason: str


def guess(name: str, files: list[SourceFile]) -> Guess:
    """By day where paths carry dates, by folder where files lie in folders, else in shards."""
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


def unknown_author(approvers: int) -> str:
    """The rule for runs that nobody is proved to have started; where there are two approvers, the stricter one."""
    if approvers < 2:
        return "    # unknown_author: two    # once there are two approvers: both, where it is not known who ran it\n"
    return "    unknown_author: two      # both, where it is not known who started the run (ai-assets run --by NAME)\n"


def defs(name: str, where: str, formats: Counter[str], files: int, guess: Guess, unknown: str) -> str:
    """The commented `defs.yaml` of a new collection."""
    found = ", ".join(f"{number} {kind}" for kind, number in formats.most_common())
    said = f"{files} files found ({found})" if files else "no documents yet"
    quoted = '"' + where.replace("\\", "\\\\").replace('"', '\\"') + '"'
    builtins = "{" + ", ".join(f'{part}: "{newest(part)}"' for part in VERSIONS) + "}"
    partitions = "\n".join(f"  {line}" for line in guess.lines)
    tables = "".join(_table_lines(kind) for kind in ("csv", "jsonl", "parquet") if kind in formats)
    return f"""\
# Scaffolded: {said}.
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
  builtins: {builtins} # no row is made by an older version of a built-in part
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
