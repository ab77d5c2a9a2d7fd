"""What both sides said, counted and judged. Pure: documents and golden labels in, results out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import between
from ai_assets.evaluation.floors import PairedLabels, labels_to_tell
from ai_assets.shadow.spec import (
    ComparedDocument,
    LabelShift,
    QualityDifference,
    ShadowVerdict,
    SidePrice,
    SliceDifference,
)
from ai_assets.statistics.ranks import nearest_rank

LEVEL = 0.95
RISK = 0.05
MOST_SLICES = 8
FEWEST = 5
"""Documents of a slice, below which it is not shown among the worst."""


@dataclass(frozen=True, kw_only=True)
class CallFacts:
    """What the ledger has of one answer."""

    cost_nusd: int | None
    latency_s: float | None


def sampled(documents: Iterable[ComparedDocument]) -> list[ComparedDocument]:
    return [each for each in documents if each.is_sampled]


def moves_of(documents: Iterable[ComparedDocument]) -> tuple[LabelShift, ...]:
    """Of the sample, what became of which label; the most frequent first."""
    counted = Counter((each.live_said, each.new_said) for each in documents if each.is_changed)
    ordered = sorted(counted.items(), key=lambda each: (-each[1], each[0][0] or "", each[0][1] or ""))
    return tuple(LabelShift(live=live, new=new, documents=number) for (live, new), number in ordered)


def paired_of(documents: Iterable[ComparedDocument], release: int | None) -> PairedLabels | None:
    """Documents with a golden label, as both sides judge them; None where there are none."""
    golden = [each for each in documents if each.golden is not None]
    if not golden:
        return None
    return PairedLabels.of(
        release, ((each.new_said == each.golden, each.live_said == each.golden) for each in golden)
    )  # fmt: skip


def qualities(
    documents: Mapping[str, Sequence[ComparedDocument]], release: int | None
) -> dict[str, QualityDifference]:  # fmt: skip
    """By variant, those that golden labels judge. Chances are corrected for the number of variants."""
    from ai_assets.statistics.chance import holm, mcnemar
    from ai_assets.statistics.intervals import difference_bounds

    pairs = {name: pair for name, each in documents.items() if (pair := paired_of(each, release)) is not None}
    chances = holm([mcnemar(pair.better, pair.worse) for pair in pairs.values()])
    found = {}
    for (name, pair), chance in zip(pairs.items(), chances, strict=True):
        same = pair.n - pair.better - pair.worse
        bounds = difference_bounds([1.0] * pair.better + [-1.0] * pair.worse + [0.0] * same, LEVEL)
        live = sum(each.live_said == each.golden for each in documents[name] if each.golden is not None)
        found[name] = QualityDifference(
            n=pair.n,
            live_right=live,
            new_right=live + pair.better - pair.worse,
            better=pair.better,
            worse=pair.worse,
            difference=(pair.better - pair.worse) / pair.n,
            low=bounds.low if bounds else None,
            high=bounds.high if bounds else None,
            level=LEVEL,
            chance=chance,
            more=None if chance <= RISK else labels_to_tell(pair, len(pairs), RISK),
        )
    return found


def worst_slices(
    documents: Sequence[ComparedDocument], slices: Mapping[str, Sequence[str]]
) -> tuple[SliceDifference, ...]:  # fmt: skip
    """`slices` holds, by document, what it is in. First where golden labels lose most, then where most changes."""
    within: dict[str, list[ComparedDocument]] = {}
    for each in documents:
        for name in slices.get(each.document_id, ()):
            within.setdefault(name, []).append(each)
    found = []
    for name, those in within.items():
        pair, there = paired_of(those, None), sampled(those)
        if len(there) < FEWEST and (pair is None or pair.n < FEWEST):
            continue
        found.append(
            SliceDifference(
                slice=name,
                documents=len(there),
                changed=sum(each.is_changed for each in there),
                golden=pair.n if pair else 0,
                better=pair.better if pair else 0,
                worse=pair.worse if pair else 0,
            )
        )
    found.sort(key=lambda each: (each.better - each.worse, -each.changed / max(each.documents, 1), each.slice))
    return tuple(found[:MOST_SLICES])


def price_of(calls: Iterable[str | None], facts: Mapping[str, CallFacts]) -> SidePrice:
    there = [facts[call] for call in calls if call is not None and call in facts]
    costs = [each.cost_nusd for each in there if each.cost_nusd is not None]
    waits = sorted(each.latency_s for each in there if each.latency_s is not None)
    return SidePrice(
        answers=len(there),
        per_document_usd=sum(costs) / len(costs) / 1e9 if costs else None,
        p50_s=nearest_rank(waits, 0.5),
        p95_s=nearest_rank(waits, 0.95),
    )


def verdict(names: Sequence[str], found: Mapping[str, QualityDifference], *, of_labels: bool) -> ShadowVerdict:
    """The winner is better beyond chance, all variants counted; of several, the one with the best lower bound."""
    if not found:
        why = "no golden label judges these documents" if of_labels else "golden labels judge stages that give labels"
        return ShadowVerdict(winner=None, said=f"Whether it gets better is not known: {why}.")
    shown = {name: each for name, each in found.items() if each.chance <= RISK and each.low is not None}
    better = [name for name, each in shown.items() if each.difference > 0]
    if better:
        winner = max(better, key=lambda name: (found[name].low or 0.0, -names.index(name)))
        of = f", by the best lower bound of {plural(len(names), 'variant')}" if len(names) > 1 else ""
        return ShadowVerdict(
            winner=winner, said=f"{winner} is better than what is live: {_difference(found[winner])}{of}."
        )
    worse = [f"{name} is worse than what is live: {_difference(each)}" for name, each in shown.items()]
    open_ = {name: each for name, each in found.items() if name not in shown}
    if not open_:
        return ShadowVerdict(winner=None, said=f"{'; '.join(worse)}.")
    best = max(open_, key=lambda name: (open_[name].difference, -names.index(name)))
    each = open_[best]
    more = "more golden labels of the same kind will not show one" if each.more is None else (
        f"it would take {plural(each.n + each.more, 'golden document')}, {each.more:,} more, if they come out alike"
    )  # fmt: skip
    said = f"No difference that this sample can show: {best} {_difference(each)}; {more}."
    return ShadowVerdict(winner=None, said="; ".join([*worse, said]))


def _difference(found: QualityDifference) -> str:
    bounds = "" if found.low is None or found.high is None else f" {between(found.low, found.high)}"
    return (
        f"{found.difference:+.3f}{bounds} on {plural(found.n, 'golden document')} "
        f"({found.better} better, {found.worse} worse, "
        f"p {found.chance:.3f})"
    )
