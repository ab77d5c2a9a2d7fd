"""From which confidence on a model may be believed without a person: the lowest one above which the exact upper bound
of its error is small enough.

Confidences are tried in a fixed order, from the most confident labels down, and the first that cannot be shown ends it
(fixed-sequence testing), so that trying many of them costs no certainty. The order depends on confidences and numbers
alone, never on what was right. What it says is true of the documents that the labels were drawn from, if they were
drawn with equal chances and independently; of labels that come in clusters (copies of a text) one of each counts.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ai_assets.base.plural import plural
from ai_assets.statistics.exact import draws_needed, probability_of_at_most, upper_bound
from ai_assets.statistics.fewest import fewest_more

STEPS = 40
"""Of the labels after the first step. Fewer tests stop less often at a streak of errors; more give a finer one."""
FIRST_SHARE = 1 / 3
"""Of the labels, at most so many are in the first step, where that is enough: with more labels it forgives an error or
two, for one among the first 45 of a thousand would end it."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One label: how sure the model was, and whether it was right."""

    confidence: float
    correct: bool


@dataclass(frozen=True, kw_only=True)
class CoveragePoint:
    """What accepting everything from a confidence on would come to, as the labels show it."""

    threshold: float
    coverage: float
    """Share of the labels."""
    labels: int
    errors: int
    error: float
    upper: float
    """Of this point alone, at the declared confidence."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """The lowest threshold that can be shown; or why none can."""

    error: float
    confidence: float
    threshold: float | None
    """A document that is at least as sure is accepted without a person."""
    coverage: float
    """The share of the labels that are, and so about that of the documents."""
    labels: int
    """That counted."""
    accepted: int
    """Labels from the threshold on."""
    errors: int
    """Of those, how many are wrong."""
    upper: float
    """The exact bound of their error."""
    missing: int | None
    """How many more labels are needed before a threshold can be expected; None where more would not help."""

    @property
    def sentence(self) -> str:
        asked = f"error at most {_percent(self.error)} with {_percent(self.confidence)} confidence"
        if self.threshold is not None:
            return (
                f"accepted without a person from {_shown(self.threshold)} on: {asked}; that is "
                f"{self.coverage:.0%} of the documents ({self.errors} of {plural(self.accepted, 'label')} wrong)"
            )
        if self.missing is not None:
            needed = plural(self.missing, "more label")
            about = "" if not self.errors else ", if the error stays as it is"
            return (
                f"nothing is accepted without a person ({asked}): {needed} of documents drawn at random needed{about}"
            )
        return (
            f"nothing is accepted without a person ({asked}): of the {plural(self.accepted, 'label')} it is surest of, "
            f"{self.errors} are wrong, so more labels would not help"
        )


def certify(labels: Iterable[Judged], *, error: float, confidence: float) -> Certified:
    """Labels with an equal confidence stand or fall together. Of one that is no number nothing is believed."""
    need_at_least = draws_needed(0, error, confidence)
    known = _by_confidence(labels)
    ends = _ends(known)
    first = _first_step(len(known), error, confidence)
    found, failed = None, None
    wrong = at = 0
    for end in _steps(ends, first):
        wrong += sum(not each.correct for each in known[at:end])
        at = end
        if probability_of_at_most(wrong, end, error) > 1 - confidence:
            failed = (end, wrong)
            break
        found = (end, wrong)
    missing = None
    if found is None:
        if failed is None:
            missing = max(1, need_at_least - len(known))
            failed = (len(known), sum(not each.correct for each in known))
        else:
            missing = _missing(*failed, error=error, confidence=confidence, n=len(known))
    end, wrong = found or failed or (0, 0)
    return Certified(
        error=error,
        confidence=confidence,
        threshold=known[end - 1].confidence if found else None,
        coverage=end / len(known) if found else 0.0,
        labels=len(known),
        accepted=end,
        errors=wrong,
        upper=upper_bound(wrong, end, confidence),
        missing=missing,
    )


def one_of_each_cluster(labels: Sequence[Judged], clusters: Sequence[Hashable]) -> list[Judged]:
    """The first label of each cluster: labels of one cluster are not independent. The order must be that of the draw,
    or another that does not look at what was right."""
    found: dict[Hashable, Judged] = {}
    for label, cluster in zip(labels, clusters, strict=True):
        found.setdefault(cluster, label)
    return list(found.values())


def of_equal_chance(inclusion: Mapping[str, float], draws: Mapping[str, float]) -> list[str]:
    """Names of labels that were drawn with different chances, thinned to the smallest of them: each is kept with the
    probability `smallest / its own`. `draws` holds a number of [0, 1) for each, which nobody can choose."""
    if not inclusion:
        return []
    if wrong := [name for name, chance in inclusion.items() if not 0 < chance <= 1]:
        raise ValueError(f"'{wrong[0]}' was drawn with the chance {inclusion[wrong[0]]}, which is not between 0 and 1")
    smallest = min(inclusion.values())
    return [name for name, chance in inclusion.items() if draws[name] * chance < smallest]


def _by_confidence(labels: Iterable[Judged]) -> list[Judged]:
    return sorted((each for each in labels if math.isfinite(each.confidence)), key=lambda each: -each.confidence)


def _ends(known: Sequence[Judged]) -> list[int]:
    """Numbers of labels after which a lower confidence begins."""
    ends, at = [], 0
    for _, group in groupby(known, key=lambda each: each.confidence):
        at += sum(1 for _ in group)
        ends.append(at)
    return ends


def _first_step(n: int, error: float, confidence: float) -> int:
    """It holds as many labels as a bound needs, and forgives as many errors as the number of labels allows."""
    forgiven, found = 0, draws_needed(0, error, confidence)
    while (more := draws_needed(forgiven + 1, error, confidence)) <= n * FIRST_SHARE:
        forgiven, found = forgiven + 1, more
    return found


def _steps(ends: Sequence[int], first: int) -> Iterable[int]:
    """Where a test is made: ties are not divided."""
    if not ends:
        return
    size = max(1, (ends[-1] - first) // STEPS)
    wanted = first
    for end in ends:
        if end >= wanted or (end == ends[-1] and end >= first):
            yield end
            wanted = end + size


def coverage_curve(labels: Iterable[Judged], confidence: float) -> tuple[CoveragePoint, ...]:
    """How the error grows with what is accepted, in at most a hundred points, for people to look at."""
    known = _by_confidence(labels)
    ends = _ends(known)
    shown = ends if len(ends) <= 100 else [ends[(len(ends) - 1) * number // 99] for number in range(100)]
    wrong, at, found = 0, 0, []
    for end in shown:
        wrong += sum(not each.correct for each in known[at:end])
        at = end
        found.append(
            CoveragePoint(
                threshold=known[end - 1].confidence,
                coverage=end / len(known),
                labels=end,
                errors=wrong,
                error=wrong / end,
                upper=upper_bound(wrong, end, confidence),
            )
        )
    return tuple(found)


MOST_FACTOR = 64


def _missing(accepted: int, wrong: int, *, error: float, confidence: float, n: int) -> int | None:
    """Labels in all that are missing, if the error among the surest stays as it is found."""
    rate = wrong / accepted

    def enough(number: int) -> bool:
        return probability_of_at_most(math.ceil(rate * number), number, error) <= 1 - confidence

    if rate >= error:
        return None
    more = fewest_more(lambda more: enough(accepted + more), accepted * (MOST_FACTOR - 1))
    return None if more is None else max(1, math.ceil(more * n / accepted))


def _shown(threshold: float) -> str:
    """Rounded up, so that what is said is never below what was shown."""
    return f"{math.ceil(threshold * 10_000) / 10_000:g}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
