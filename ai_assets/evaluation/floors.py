"""Gates that ask what the golden items show, and not only what came out on them: a floor under the lower bound (of a
set that is fixed, or at any time while labels come in), no worse than what is live, a floor in every slice. Pure.

Too few items to tell are `undecided`, with how many more it would take.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import between, decimals, figure, lower, upper
from ai_assets.evaluation.slices import SliceScore, by_of
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval, Ruling

if TYPE_CHECKING:
    from ai_assets.evaluation.gates import Gate, GateCase
    from ai_assets.statistics.intervals import ValueBounds

MOST_LABELS = 100_000
"""Beyond which it is said that labels alone do not help."""


@dataclass(frozen=True, kw_only=True)
class PairedLabels:
    """The same golden documents, judged as they are and as they are live."""

    release: int | None
    """None where they are compared with what is not live."""
    n: int
    better: int
    """Right now and wrong in the live release."""
    worse: int

    @classmethod
    def of(cls, release: int | None, right: Iterable[tuple[bool, bool]]) -> Self:
        """`right`: of each document, whether it is judged rightly now, and whether it is in what is live."""
        counted = Counter(right)
        return cls(
            release=release, n=counted.total(), better=counted[True, False], worse=counted[False, True]
        )  # fmt: skip

    @property
    def difference(self) -> float:
        return (self.better - self.worse) / self.n

    def differences(self, factor: float = 1.0) -> list[float]:
        """Of each document, or of so many times as many that are like these."""
        better, worse, n = (round(number * factor) for number in (self.better, self.worse, self.n))
        return [1.0] * better + [-1.0] * worse + [0.0] * max(0, n - better - worse)


@dataclass(frozen=True, kw_only=True)
class PairedSlices:
    """The same, of each slice."""

    release: int
    of: Mapping[str, PairedLabels]


@dataclass(frozen=True, kw_only=True)
class PairedQueries:
    """The same golden queries by one embedding, asked of the search as it would be and as it is live."""

    clusters: Sequence[str]
    """Of each query, the document that it shares with others."""
    now: Mapping[str, Sequence[float]]
    """By metric, of each query."""
    live: Mapping[str, Sequence[float]]

    def differences(self, metric: str) -> list[float]:
        return [now - live for now, live in zip(self.now[metric], self.live[metric], strict=True)]


@dataclass(frozen=True, kw_only=True)
class PairedSearch:
    release: int
    of: Mapping[str | None, PairedQueries]
    """By the asset of the embedding, None for the first one."""
    why_not: str = ""
    """Where the live search cannot be asked the same."""


def interval_of(value: float, error: float, clusters: int, confidence: float) -> "ValueBounds | None":
    """The lower bound is above the true value with a probability of at most `1 - confidence`; so is the upper below."""
    from ai_assets.statistics.intervals import share_bounds

    return share_bounds(value, error, clusters, 2 * confidence - 1)


def judge_lower_bound(case: "GateCase", error: float | None, clusters: int | None, of: str = "label") -> GateVerdict:
    """Of a score with a value; `of` is what more of would decide it."""
    score, gate = case.score, case.gate
    assert score is not None
    assert score.value is not None
    value, least, confidence = score.value, gate.least, gate.confidence
    declared = Baseline(kind="declared", value=least)
    bounds = None if error is None or clusters is None else interval_of(value, error, clusters, confidence)
    if bounds is None:
        return case.undecided(
            f"{gate.name} {figure(value, least)} (n = {score.n}) has no interval: nothing says whether it is at "
            f"least {least:g}",
            holds=gate.undecided == "block", baseline=declared,
        )  # fmt: skip
    case = case.with_interval(Interval(low=bounds.low, high=bounds.high, level=2 * confidence - 1))
    said = (
        f"{gate.name} is at least {lower(bounds.low, least)} with {confidence:.0%} confidence "
        f"({decimals(value, least)}, n = {score.n})"
    )
    if bounds.low >= least:
        return case.passed(f"{said}; minimum {least:g}", baseline=declared, margin=bounds.low - least)
    if value < least:
        return case.failed(f"{said}; the value itself is below the minimum {least:g}", baseline=declared,
                           margin=bounds.low - least)  # fmt: skip
    assert error is not None
    assert clusters is not None
    more = more_needed(lambda factor: _low(value, error, clusters, confidence, factor) >= least, score.n)
    return case.undecided(
        f"{said}, which does not reach the minimum {least:g}: {needed_in_words(more, of)}",
        holds=gate.undecided == "block", baseline=declared, margin=bounds.low - least,
    )  # fmt: skip


def _low(value: float, error: float, clusters: int, confidence: float, factor: float) -> float:
    found = interval_of(value, error / math.sqrt(factor), round(clusters * factor), confidence)
    return 0.0 if found is None else found.low


def judge_any_time(case: "GateCase") -> GateVerdict:
    """Of a share of right labels. It fails only where it is shown to be below: early values are mostly noise."""
    from ai_assets.statistics.any_time import is_above, is_below, lower_bound, upper_bound

    gate, score = case.gate, case.score
    assert score is not None
    assert score.value is not None
    value, least, risk = score.value, gate.least, 1 - gate.confidence
    right = round(value * score.n)
    values: dict[float, float] = {1.0: right, 0.0: score.n - right}
    declared = Baseline(kind="declared", value=least)
    low, high = lower_bound(values, risk), upper_bound(values, risk)
    case = case.with_interval(Interval(low=low, high=high, level=2 * gate.confidence - 1))
    said = (
        f"{gate.metric} {decimals(value)} (n = {score.n}) is at least {lower(low)} "
        f"and at most {upper(high)}, each with "
        f"{gate.confidence:.0%} confidence however often one looks"
    )
    if least <= 0 or is_above(values, least, risk):
        return case.passed(f"{said}; minimum {least:g}", baseline=declared, margin=low - least)
    if is_below(values, least, risk):
        return case.failed(f"{said}; the minimum is {least:g}", baseline=declared, margin=low - least)
    more = more_needed(lambda factor: is_above(_times(values, factor), least, risk), score.n)
    return case.undecided(
        f"{said}; whether it reaches the minimum {least:g} is not shown yet: {needed_in_words(more, about=True)}",
        holds=gate.undecided == "block", baseline=declared, margin=low - least,
    )  # fmt: skip


def _times(values: Mapping[float, float], factor: float) -> dict[float, float]:
    return {value: number * factor for value, number in values.items()}


def judge_against_live(case: "GateCase", paired: PairedLabels | None) -> GateVerdict:
    """No worse than the live release by more than was declared, on the same golden documents."""
    gate = case.gate
    if paired is None:
        return case.without_live
    if not paired.n:
        baseline = Baseline(kind="live", value=None, n=0, release=paired.release)
        said = f"{gate.name}: 0 golden documents are in both"
        return case.undecided(said, holds=gate.undecided == "block", baseline=baseline)
    return (_against_live_at_any_time if gate.at == "any_time" else _against_live)(case, paired)


def _against_live_at_any_time(case: "GateCase", paired: PairedLabels) -> GateVerdict:
    from ai_assets.statistics.any_time import is_above, is_below, lower_bound, upper_bound

    gate = case.gate
    most = gate.no_worse_by
    assert most is not None
    baseline = Baseline(kind="live", value=None, n=paired.n, release=paired.release)
    # Differences of -1, 0 and 1, moved to between 0 and 1.
    same = paired.n - paired.better - paired.worse
    values: dict[float, float] = {1.0: paired.better, 0.5: same, 0.0: paired.worse}
    floor, risk = (1 - most) / 2, 1 - gate.confidence
    low, high = 2 * lower_bound(values, risk) - 1, 2 * upper_bound(values, risk) - 1
    mean, margin = paired.difference, low + most
    said = (
        f"{gate.name}: {decimals(mean, signed=True)} {between(low, high)} against release "
        f"{paired.release} on {plural(paired.n, 'document')} "
        f"({paired.better} better, {paired.worse} worse), however often one looks"
    )
    if is_above(values, floor, risk):
        return case.passed(f"{said}; at most {most:g} worse", baseline=baseline, margin=margin)
    if is_below(values, floor, risk):
        return case.failed(f"{said}; more than {most:g} worse", baseline=baseline, margin=margin)
    more = more_needed(lambda factor: is_above(_times(values, factor), floor, risk), paired.n)
    return case.undecided(
        f"{said}; that it is at most {most:g} worse is not shown yet: {needed_in_words(more, about=True)}",
        holds=gate.undecided == "block", baseline=baseline, margin=margin,
    )  # fmt: skip


def _against_live(case: "GateCase", paired: PairedLabels) -> GateVerdict:
    """Of golden documents that were fixed before anybody looked."""
    from ai_assets.statistics.chance import mcnemar
    from ai_assets.statistics.intervals import difference_bounds

    gate = case.gate
    most = gate.no_worse_by
    assert most is not None
    baseline = Baseline(kind="live", value=None, n=paired.n, release=paired.release)
    bounds = difference_bounds(paired.differences(), 2 * gate.confidence - 1)
    if bounds is None:
        return case.undecided(
            f"{gate.name}: {plural(paired.n, 'golden document is', 'golden documents are')} in both",
            holds=gate.undecided == "block",
            baseline=baseline,
        )
    mean = paired.difference
    chance = mcnemar(paired.better, paired.worse)
    said = (
        f"{gate.name}: {decimals(mean, -most, signed=True)} {between(bounds.low, bounds.high, -most)} "
        f"against release {paired.release} on "
        f"{plural(paired.n, 'document')} ({paired.better} better, {paired.worse} worse, p {chance:.3f})"
    )

    def is_enough(factor: float) -> bool:
        found = difference_bounds(paired.differences(factor), 2 * gate.confidence - 1)
        return found is not None and found.low >= -most

    return no_worse(
        case, said, baseline, mean, bounds.low, lambda: needed_in_words(more_needed(is_enough, paired.n))
    )  # fmt: skip


def no_worse(
    case: "GateCase", said: str, baseline: Baseline | None, difference: float, low: float, needed: Callable[[], str]
) -> GateVerdict:
    """Of a difference to what is live, and its lower bound. `needed` says what would decide it."""
    most = case.gate.no_worse_by
    assert most is not None
    margin = low + most
    if low >= -most:
        return case.passed(f"{said}; at most {most:g} worse", baseline=baseline, margin=margin)
    if difference < -most:
        return case.failed(f"{said}; more than {most:g} worse", baseline=baseline, margin=margin)
    return case.undecided(
        f"{said}; that it is at most {most:g} worse is not shown: {needed()}",
        holds=case.gate.undecided == "block", baseline=baseline, margin=margin,
    )  # fmt: skip


def judge_search_against_live(case: "GateCase", paired: PairedSearch | None) -> GateVerdict:
    """No worse than the live search by more than was declared, on the same golden queries."""
    from ai_assets.statistics.intervals import clustered_difference_bounds

    gate = case.gate
    most = gate.no_worse_by
    assert most is not None
    if paired is None:
        return case.without_live
    holds = gate.undecided == "block"
    found = None if case.score is None else paired.of.get(case.score.stage)
    if found is None or not found.clusters:
        why = paired.why_not or "no golden query has a document that is in both"
        return case.undecided(f"{gate.name}: not compared with release {paired.release}: {why}", holds=holds)
    differences = found.differences(gate.metric)
    n, mean = len(differences), math.fsum(differences) / len(differences)
    baseline = Baseline(kind="live", value=math.fsum(found.live[gate.metric]) / n, n=n, release=paired.release)
    level = 2 * gate.confidence - 1
    bounds = clustered_difference_bounds(differences, found.clusters, level)
    if bounds is None:
        about = f"the {plural(n, 'golden query is', 'golden queries are')} about one document"
        return case.undecided(f"{gate.name}: {about}", holds=holds, baseline=baseline)
    better, worse = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    said = (
        f"{gate.name}: {decimals(mean, -most, signed=True)} {between(bounds.low, bounds.high, -most)} "
        f"against release {paired.release} on "
        f"{plural(n, 'query')} about {plural(bounds.clusters, 'document')} ({better} better, {worse} worse)"
    )

    def is_enough(factor: float) -> bool:
        there = clustered_difference_bounds(differences, found.clusters, level, factor)
        return there is not None and there.low >= -most

    return no_worse(
        case, said, baseline, mean, bounds.low,
        lambda: needed_in_words(more_needed(is_enough, n), "query", "queries"),
    )  # fmt: skip


def judge_slices(case: "GateCase", slices: Sequence[SliceScore]) -> GateVerdict:
    """A slice fails where it is below the minimum and, over all slices that were looked at, hardly by chance."""
    gate, least = case.gate, case.gate.least
    declared = Baseline(kind="declared", value=least)
    judged = [each for each in slices if each.n >= gate.slice_documents]
    few = sorted((each for each in slices if each.n < gate.slice_documents), key=lambda each: each.n)
    chances = slice_chances(gate, judged)
    found = sorted(((each, chances[each.slice]) for each in judged), key=lambda each: (each[0].value, each[0].slice))
    failed = [(each, chance) for each, chance in found if each.value < least and chance <= 1 - gate.confidence]
    worst = found[0][0] if found else None
    case = case.with_score(worst.value, worst.n, worst.slice) if worst is not None else case.with_score(None, 0, None)
    margin = None if worst is None else worst.value - least
    if failed:
        told = "; ".join(
            f"{each.slice} {decimals(each.value, least)} (n = {each.n}, p {chance:.3f})" for each, chance in failed[:3]
        )
        return case.failed(f"{gate.name} below the minimum {least:g}: {told}", baseline=declared, margin=margin)
    missing = _labels_missing(gate, few[0].slice, few[0].n) if few else ""
    if worst is None:
        why = missing or "no golden document is in a slice"
        return case.undecided(f"{gate.name}: not judged; {why}", holds=gate.undecided == "block", baseline=declared)
    said = (
        f"{gate.name}: the worst is {worst.slice} with {decimals(worst.value, least)} "
        f"(n = {worst.n}); minimum {least:g}"
    )
    if few:
        return case.undecided(f"{said}; {missing}", holds=gate.undecided == "block", baseline=declared, margin=margin)
    return case.passed(said, baseline=declared, margin=margin)


def judge_slices_against_live(case: "GateCase", paired: PairedSlices | None) -> GateVerdict:
    """A slice fails where it is worse than was declared and, over all slices that were looked at, hardly by chance."""
    from ai_assets.statistics.chance import holm
    from ai_assets.statistics.intervals import chance_of_difference

    gate = case.gate
    most = gate.no_worse_by
    assert most is not None
    if paired is None:
        return case.without_live
    holds = gate.undecided == "block"
    found = {name: each for name, each in paired.of.items() if by_of(name) in gate.slices}
    few = sorted((each.n, name) for name, each in found.items() if each.n < gate.slice_documents)
    judged = sorted(
        ((name, each) for name, each in found.items() if each.n >= gate.slice_documents),
        key=lambda item: (item[1].difference, item[0]),
    )
    missing = _labels_missing(gate, few[0][1], few[0][0]) if few else ""
    if not judged:
        baseline = Baseline(kind="live", value=None, n=0, release=paired.release)
        why = missing or "no golden document is in both and in a slice"
        return case.with_score(None, 0, None).undecided(
            f"{gate.name}: not judged; {why}", holds=holds, baseline=baseline
        )
    chances = holm([chance_of_difference(each.differences(), -most) for _, each in judged])
    worst, pairs = judged[0]
    case = case.with_score(None, pairs.n, worst)
    baseline, margin = Baseline(kind="live", value=None, n=pairs.n, release=paired.release), pairs.difference + most
    failed = [
        (name, each, chance) for (name, each), chance in zip(judged, chances, strict=True)
        if each.difference < -most and chance <= 1 - gate.confidence
    ]  # fmt: skip
    if failed:
        told = "; ".join(
            f"{name} {decimals(each.difference, -most, signed=True)} (n = {each.n}, {each.better} "
            f"better, {each.worse} worse, p {chance:.3f})"
            for name, each, chance in failed[:3]
        )
        said = f"{gate.name}, release {paired.release}: more than {most:g} worse: {told}"
        return case.failed(said, baseline=baseline, margin=margin)
    said = (
        f"{gate.name}, release {paired.release}: the worst is {worst} with "
        f"{decimals(pairs.difference, -most, signed=True)} (n = {pairs.n}); "
        f"at most {most:g} worse"
    )
    if few:
        return case.undecided(f"{said}; {missing}", holds=holds, baseline=baseline, margin=margin)
    return case.passed(said, baseline=baseline, margin=margin)


def _labels_missing(gate: "Gate", slice_: str, documents: int) -> str:
    return f"{slice_} needs {plural(gate.slice_documents - documents, 'more label')}"


def slice_chances(gate: "Gate", slices: Sequence[SliceScore]) -> Mapping[str, float]:
    """By slice with enough documents, how likely so few right ones are where the minimum holds; over all slices."""
    from ai_assets.statistics.chance import holm
    from ai_assets.statistics.exact import probability_of_at_most

    judged = [each for each in slices if each.n >= gate.slice_documents]
    chances = holm([probability_of_at_most(each.right, each.n, gate.least) for each in judged])
    return {each.slice: chance for each, chance in zip(judged, chances, strict=True)}


def slice_ruling(gate: "Gate", found: SliceScore, chance: float | None) -> Ruling:
    """Of one slice, as it weighs in the gate's verdict; `chance` as `slice_chances` has it."""
    if chance is None:
        return "undecided"
    return "failed" if found.value < gate.least and chance <= 1 - gate.confidence else "passed"


def labels_to_tell(paired: PairedLabels, questions: int, risk: float) -> int | None:
    """How many more golden documents of the same kind would show that one side is better, where so many comparisons
    are made at once; None where no number does."""
    from ai_assets.statistics.chance import mcnemar

    def is_enough(factor: float) -> bool:
        return questions * mcnemar(round(paired.better * factor), round(paired.worse * factor)) <= risk

    return None if paired.better == paired.worse else more_needed(is_enough, paired.n)


def more_needed(is_enough: Callable[[float], bool], n: int) -> int | None:
    """How many more items of the same kind would decide it, where so many times as many are enough; None where no
    number does."""
    from ai_assets.statistics.fewest import fewest_more

    return None if n < 1 else fewest_more(lambda more: is_enough((n + more) / n), MOST_LABELS - n)


def needed_in_words(more: int | None, one: str = "label", several: str | None = None, *, about: bool = False) -> str:
    several = several or f"{one}s"
    if more is None:
        return f"more {several} alone will not show it"
    return f"{'about ' * about}{more:,} more {one if more == 1 else several} needed, if they come out alike"
