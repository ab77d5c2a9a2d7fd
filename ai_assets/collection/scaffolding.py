"""The `defs.yaml` of a new collection: what fits the files of its source, with the guesses explained in comments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural
from ai_assets.collection.builtins import VERSIONS, newest
from ai_assets.collection.label_proposals import ProposedLabel
from ai_assets.collection.loading import COMPONENT_TYPE
from ai_assets.collection.partition_guess import Guess
from ai_assets.collection.survey import MOST_KINDS, SkippedKind, Survey

STAGE = "classification"
"""The name of the stage that `--route` writes."""
PROMPT_FILE = f"prompts/{STAGE}.md"


@dataclass(frozen=True, kw_only=True)
class ModelStage:
    """The stage on a route that a new collection begins with."""

    route: str
    labels: Sequence[ProposedLabel]
    """Proposed from the documents; empty where there were too few."""
    sampled: int


def unknown_author(approvers: int) -> str:
    """The rule for runs that nobody is proved to have started; where there are two approvers, the stricter one."""
    if approvers < 2:
        return "    # unknown_author: two    # once there are two approvers: both, where it is not known who ran it\n"
    return "    unknown_author: two      # both, where it is not known who started the run (ai-assets run --by NAME)\n"


def defs(name: str, where: str, found: Survey, fitting: Guess, unknown: str, stage: ModelStage | None = None) -> str:
    """The commented `defs.yaml` of a new collection."""
    builtins = "{" + ", ".join(f'{part}: "{newest(part)}"' for part in VERSIONS) + "}"
    formats = dict(found.formats)
    partitions = "\n".join(f"    {line}" for line in fitting.lines)
    tables = "".join(_table_lines(kind) for kind in ("csv", "jsonl", "parquet") if kind in formats)
    stages = _example_stage() if stage is None else _model_stage(stage)
    return f"""\
# Scaffolded: {said_of(found)}
{_skipped_lines(found)}\
# Every key is described in docs/collections.md. Check this file with: dg check defs
type: {COMPONENT_TYPE}
attributes:
  description: Documents of {name}.
  source:
    path: {json.dumps(where, ensure_ascii=False)}
{_include_lines(found)}\
{_exclude_lines(found)}\
{tables}\
  partitions:    # {fitting.reason}
{partitions}
  builtins: {builtins} # no row is made by an older version of a built-in part
  chunking:
    max_characters: 800
{stages}\
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


def said_of(found: Survey) -> str:
    """How many files there are, and what they are."""
    formats = ", ".join(f"{number} {kind}" for kind, number in found.formats)
    more = "" if found.is_whole else f"; there are more than the {found.files} that were looked at"
    return f"{plural(found.files, 'file')} found, {len(found.documents)} of them documents ({formats}){more}."


def skipped_in_words(found: Survey) -> list[str]:
    """A line for each frequent kind of files that are skipped, one for the rest of them."""
    lines = [_skipped(each) for each in found.skipped[:MOST_KINDS]]
    if rest := found.skipped[MOST_KINDS:]:
        lines.append(f"{sum(each.number for each in rest)} of {plural(len(rest), 'other kind')}")
    return lines


def _skipped(each: SkippedKind) -> str:
    return f"{each.number} {each.kind}: {each.why} (such as {each.example})"


def _skipped_lines(found: Survey) -> str:
    if not found.skipped:
        return ""
    lines = "".join(f"#   {line}\n" for line in map(_in_a_comment, skipped_in_words(found)))
    return f"# Skipped, because 'include' below does not match them, or 'exclude' does:\n{lines}"


def _in_a_comment(text: str) -> str:
    """A name of a file may hold a line break."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _include_lines(found: Survey) -> str:
    if not found.skipped:
        return '    # include: ["**/*.md"]      # glob patterns, relative to the path; without it all files\n'
    patterns = "".join(f"      - {json.dumps(pattern, ensure_ascii=False)}\n" for pattern in found.include)
    return f"    include:      # add a pattern when a kind of document comes that is not here yet\n{patterns}"


def _exclude_lines(found: Survey) -> str:
    if not found.exclude:
        return '    # exclude: ["drafts/**"]\n'
    patterns = "".join(f"      - {json.dumps(pattern, ensure_ascii=False)}\n" for pattern in found.exclude)
    return f"    exclude:\n{patterns}"


def _table_lines(kind: str) -> str:
    return f"""\
    # Rows of {kind} files are documents; say which column identifies a row and which hold the text:
    # tables: {{{kind}: {{key: id, title: subject, text: [subject, body]}}}}
"""


def _example_stage() -> str:
    return f"""\
  # What to make of each document. Describe the labels as you would to a new colleague:
  # stages:
  #   - name: {STAGE}
  #     kind: classify
  #     labels:
  #       - {{name: invoice, description: A bill that asks for payment of an amount.}}
  #       - {{name: contract, description: An agreement between parties with terms and signatures.}}
  # This labels without a model. Once it has run: ai-assets adapt fits it to your documents, without labels.
  # Questions with known answers, measured after every refresh; a gate stops what falls below it:
  # golden: {{queries: golden/queries.jsonl, labels: golden/labels.jsonl}}
  # gates:
  #   - {{metric: recall@5, min: 0.9}}
"""


def _model_stage(stage: ModelStage) -> str:
    labels = "".join(_label_lines(label, stage.sampled) for label in stage.labels) or _placeholder_labels()
    how = (
        f"proposed from {plural(stage.sampled, 'document')} by their likeness: a draft"
        if stage.labels
        else "placeholders, because too few documents are there to propose any"
    )
    return f"""\
  # What to make of each document. The labels are {how}.
  # EDIT THEM before you pay for a run over everything: join, split and rename them, and describe each as you would to
  # a new colleague. The model reads names and descriptions through {PROMPT_FILE}.
  stages:
    - name: {STAGE}
      kind: classify
      route: {stage.route}
      prompt: {PROMPT_FILE}
      labels:
{labels}\
  # Labels that people give on the desk (Label, in its menu) measure the model; a gate stops what falls below it:
  golden: {{review: true}}
  # gates:
  #   - {{metric: accuracy, min: 0.8}}     # ai-assets golden status says how many labels it takes to decide
"""


def _label_lines(label: ProposedLabel, sampled: int) -> str:
    such_as = _in_a_comment(", ".join(label.such_as))
    return f"""\
        - name: {label.name}      # proposal: {label.documents} of {sampled}, such as {such_as}
          description: {json.dumps(label.description, ensure_ascii=False)}
"""


def _placeholder_labels() -> str:
    return """\
        - name: first_kind      # placeholder
          description: "Replace this with what such a document is, in a sentence or two."
        - name: everything_else      # placeholder
          description: "Replace this with what the other documents are, in a sentence or two."
"""
