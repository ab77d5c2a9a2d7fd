"""A model card as Markdown: the same card gives the same text. Names and sentences are text, never markup."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from ai_assets.base.money import dollars
from ai_assets.base.plural import plural
from ai_assets.base.printable import printable
from ai_assets.evaluation.figures import lower, upper
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.signoff.release_cards import LEVEL, KeptCard, ReleaseCard

MOST_ROWS = 50
_MARKUP = re.compile(r"[\\|*`<>\[\]&~]|(?<!\w)_|_(?!\w)")


def card_markdown(kept: KeptCard) -> str:
    parts = [
        f"# {text(kept.card.collection)}, release {kept.card.release}",
        head(kept),
        *(f"## {title}\n\n{said}" for title, said in sections(kept)),
    ]
    return "\n\n".join(parts) + "\n"


@lru_cache(maxsize=2)
def sections(kept: KeptCard) -> Sequence[tuple[str, str]]:
    """Title and Markdown of each that has something to say."""
    card = kept.card
    found = {
        "Known limits": _limits(card),
        "Data": _data(card),
        "Prompts and models": _models(card),
        "Compared before": _compared(card),
        "Stopped before": _stopped(card),
        "Evaluation": _evaluation(card),
        "Gates": _gates(card),
        "Contract": _contract(card),
        "Drift": _drift(card),
        "Held documents": _held(card),
        "Cost": _cost(card),
        "Who signed": _signed(card),
    }
    return [(title, said) for title, parts in found.items() if (said := "\n\n".join(parts))]


def text(said: str) -> str:
    """On one line, so that it is read as it is."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(printable(said).split()))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> str:
    """At most `MOST_ROWS` of them; below, how many are left out."""
    every = list(rows)
    lines = [list(columns), [("---:" if name in right else "---") for name in columns]]
    lines += [["" if cell is None else text(str(cell)) for cell in row] for row in every[:MOST_ROWS]]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    left = len(every) - MOST_ROWS
    return drawn if left <= 0 else f"{drawn}\n\n{left:,} more are in the card as JSON."


def head(kept: KeptCard) -> str:
    return "\n\n".join(_head(kept))


def _head(kept: KeptCard) -> Iterator[str]:
    card = kept.card
    yield (
        f"Published {_moment(card.published_at)} by {text(card.published_by)}: {plural(card.documents, 'document')} in "
        f"{plural(len(card.partitions), 'partition')}."
    )
    yield f"Digest of the release: `{card.digest}`"
    if card.made_later:
        yield (
            "**Made later.** This release was published by a version that kept no card. What is said here was read "
            "from what is kept of it now, and the audit chain holds no digest of it."
        )
    else:
        yield f"SHA-256 of this card as JSON, as the audit chain has it: `{kept.digest}`"


def _limits(card: ReleaseCard) -> Iterator[str]:
    yield (
        "\n".join(f"- {text(limit)}" for limit in card.limits)
        if card.limits
        else (
            "None of those that are looked for: undecided or waived gates, few golden items, documents that could not "
            "be read, that wait or that drifted, runs of unknown authors."
        )
    )


def _data(card: ReleaseCard) -> Iterator[str]:
    every = card.partitions.values()
    for name, found in (("State", _summed(each.statuses for each in every)),
                        ("Language", _summed(each.languages for each in every))):  # fmt: skip
        if found:
            yield table((name, "Documents"), ((said, f"{n:,}") for said, n in found.items()), ("Documents",))
    columns = ("Partition", "Documents", "Quarantined", "Passages", "Signed digest")
    rows = (
        (name, f"{each.documents:,}", f"{each.quarantined:,}", f"{each.passages:,}", each.digest[:16])
        for name, each in card.partitions.items()
    )
    yield table(columns, rows, columns[1:4])


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in counts:
        found.update(each)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _models(card: ReleaseCard) -> Iterator[str]:
    found: Counter[tuple[str, str, str, str, str]] = Counter()
    versions: Counter[tuple[str, str]] = Counter()
    for each in card.partitions.values():
        for said in each.answers:
            version = each.code_versions.get(said.stage, "unknown")
            found[said.stage, said.model, said.endpoint or "none", said.prompt or "none", version] += said.documents
        versions.update(each.code_versions.items())
    if found:
        columns = ("Stage", "Model", "Endpoint", "Prompt version", "Digest of prompt and settings", "Documents")
        yield table(columns, ((*key, f"{n:,}") for key, n in sorted(found.items())), ("Documents",))
    if card.embeddings:
        yield f"Vectors by {text(card.embeddings)}. Searched by {text(card.searched_by)}."
    of_assets = ("Asset", "Code version", "Partitions")
    asked = {key[0] for key in found}
    others = ((*key, f"{n:,}") for key, n in sorted(versions.items()) if key[0] not in asked)
    yield table(of_assets, others, ("Partitions",))


def _compared(card: ReleaseCard) -> Iterator[str]:
    """Nothing where nothing was: most releases have no other prompt or model."""
    if card.compared:
        rows = ((each.shadow, each.stage, each.by, _moment(each.at), each.promoted or "nothing", each.verdict)
                for each in card.compared)  # fmt: skip
        yield table(("Shadow", "Stage", "By", "When", "Promoted", "What it found"), rows)


def _stopped(card: ReleaseCard) -> Iterator[str]:
    """Nothing where nothing was."""
    if card.stopped:
        rows = ((_moment(each.at), each.partition, each.gate, each.verdict,
                 "not judged" if each.value is None else f"{each.value:.3f}", f"{each.n:,}", each.candidate[:12])
                for each in card.stopped)  # fmt: skip
        columns = ("When", "Partition", "Gate", "Verdict", "Value", "n", "Candidate")
        yield table(columns, rows, ("Value", "n"))


def _evaluation(card: ReleaseCard) -> Iterator[str]:
    newest = card.newest
    if newest is None:
        return
    corpus = [each for each in newest.scores if each.scope == "corpus"]
    columns = ("Metric", "Of", "Value", f"{LEVEL:.0%} interval", "Golden items")
    if corpus:
        yield f"Over all partitions, as last measured ({_moment(newest.requested_at)}):"
        yield table(columns, map(score_row, corpus), ("Value", "Golden items"))
    if newest.slices:
        yield "By slice, the worst first:"
        yield table(("Slice", "Right", "Golden items"), map(slice_row, newest.slices), ("Right", "Golden items"))
    own = [
        (name, *score_row(score))
        for name, each in card.partitions.items()
        for score in each.scores
        if score.scope == "partition" and score.n
    ]
    if own:
        yield "Of each partition alone:"
        yield table(("Partition", *columns), own, ("Value", "Golden items"))


def score_row(score: Score) -> tuple[str, str, str, str, str]:
    value = "not judged" if score.value is None else f"{score.value:.3f}"
    bounds = score.interval
    between = "unknown" if bounds is None else f"{lower(bounds.low)} to {upper(bounds.high)}"
    return score.metric, score.stage or "search", value, between if score.value is not None else "", f"{score.n:,}"


def slice_row(found: SliceScore) -> tuple[str, str, str]:
    return found.slice, f"{found.value:.3f}", f"{found.n:,}"


def _gates(card: ReleaseCard) -> Iterator[str]:
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in card.partitions.values():
        for gate in each.gates:
            counted[gate.name][gate.verdict] += 1
    if not counted:
        yield "No gate judged it."
        return
    verdicts = ("passed", "failed", "undecided")
    rows = ((name, *(f"{found[said]:,}" for said in verdicts)) for name, found in counted.items())
    yield table(("Gate", "Passed", "Failed", "Undecided"), rows, ("Passed", "Failed", "Undecided"))
    others = [
        (name, gate.name, gate.verdict, gate.sentence)
        for name, each in card.partitions.items()
        for gate in each.gates
        if gate.verdict != "passed"
    ]
    if others:
        yield table(("Partition", "Gate", "Verdict", "What it found"), others)
    waived = [
        (name, waiver.gate, waiver.by, _moment(waiver.at), waiver.reason)
        for name, each in card.partitions.items()
        for waiver in each.waivers
    ]
    if waived:
        yield "Passed over by a person:"
        yield table(("Partition", "Gate", "By", "When", "Why"), waived)


def _contract(card: ReleaseCard) -> Iterator[str]:
    promised = card.contract
    if promised is not None:
        said = (
            f"Version {promised.version} promises readers {plural(promised.columns, 'column')}. "
            f"Its digest: `{promised.digest}`"
        )
        yield f"{said}. Broken by {', '.join(map(text, promised.broken))}." if promised.broken else f"{said}."


def _drift(card: ReleaseCard) -> Iterator[str]:
    looked = {name: each for name, each in card.partitions.items() if each.drift is not None}
    if not looked:
        yield "Not looked at."
        return
    yield table(("Partition", "Verdict"), ((name, each.drift) for name, each in looked.items()))
    drifted = [(name, said) for name, each in looked.items() for said in each.drifted]
    if drifted:
        yield table(("Partition", "What drifted"), drifted)


def _held(card: ReleaseCard) -> Iterator[str]:
    found = _summed(each.held for each in card.partitions.values())
    if found:
        rows = ((_BECAME.get(said, said), f"{n:,}") for said, n in found.items())
        yield table(("What became of it", "Answers"), rows, ("Answers",))


_BECAME = {"without it": "waits, and is not released", "marked it": "waits, and is released with a mark"}


def _cost(card: ReleaseCard) -> Iterator[str]:
    every = list(card.partitions.values())
    rows = (
        ("All answers and vectors, when they were paid for", _total(each.cost_usd for each in every)),
        ("Answers paid by the runs that made the candidates", _total(each.paid_usd for each in every)),
        ("Answers of earlier runs that were used again", _total(each.reused_usd for each in every)),
    )
    yield table(("What", "Dollars"), ((what, dollars(amount)) for what, amount in rows), ("Dollars",))


def _total(amounts: Iterable[float | None]) -> float | None:
    """Unknown where a part of it is."""
    found = list(amounts)
    known = [each for each in found if each is not None]
    return round(math.fsum(known), 9) if len(known) == len(found) else None


def _signed(card: ReleaseCard) -> Iterator[str]:
    rows = (
        (name, signature.person, _moment(signature.at), each.request_id, each.launched)
        for name, each in card.partitions.items()
        for signature in each.signed
    )
    yield table(("Partition", "Signed by", "When", "Request", "Run started by"), rows)


def _moment(at: str | None) -> str:
    return "at an unknown time" if at is None else f"{at[:19].replace('T', ' ')} UTC"
