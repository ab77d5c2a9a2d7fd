"""Whether a candidate's documents still look like those that are published: comparisons, and the verdict on them. Pure.

Drifted is what is both far enough (`effect`) and hardly chance (`p`, over all comparisons of the partition by Holm).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import figure
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Ruling

if TYPE_CHECKING:
    from ai_assets.collection.drift_settings import DriftSettings
    from ai_assets.evaluation.profile import Profile, Reference

NAME = "drift"
MIX, WORDS, VECTORS = "mix", "unseen words", "vectors"
FEWEST_PARTITIONS = 3
"""Of a side whose own new words are to be known."""
SHOWN_VALUES = 8
LEAST_DRAWS, MOST_DRAWS = 999, 19_999


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One thing that was looked at, against one side."""

    look: str
    """`language`, `source`, `length`, `readable`, a column of labels or of confidence; `unseen words`, `vectors`."""
    slice: str
    """`language de`; nothing for all documents."""
    against: str
    kind: str
    n: int
    reference_n: int
    effect: float | None
    """None where there is too little to compare."""
    limit: float
    p: float | None = None
    drifted: bool = False
    missing: int = 0
    """Documents that are missing for a comparison."""
    values: tuple[tuple[str, float, float], ...] = ()
    """Those whose share moved most, with the share here and there."""

    @property
    def place(self) -> str:
        return f"{self.look} within {self.slice}" if self.slice else self.look

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "values": [list(value) for value in self.values]}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "values": tuple((name, here, there) for name, here, there in data["values"])})

    @property
    def in_words(self) -> str:
        if self.effect is None:
            return f"{self.place} against {self.against}: {plural(self.missing, 'more document')} needed"
        size = {MIX: "stability index", WORDS: "more unseen words", VECTORS: "share of the spread"}[self.kind]
        in_percent = self.kind == WORDS
        found = f"{figure(100 * self.effect, 100 * self.limit)}%" if in_percent else figure(self.effect, self.limit)
        limit = f"{100 * self.limit:g}%" if in_percent else f"{self.limit:g}"
        moved = "; ".join(f"{value} {there:.0%} to {here:.0%}" for value, here, there in self.values[:3])
        chance = "< 0.001" if self.p is not None and self.p < 0.001 else f"{self.p:.3f}"
        return (
            f"{self.place} against {self.against}: {size} {found}, at most {limit}, p {chance}"
            f"{f' ({moved})' if moved else ''}"
        )


def compare(
    new: "Profile", sides: Mapping[str, "Reference"], settings: "DriftSettings", seed: int
) -> tuple[Comparison, ...]:
    """All comparisons, those that drifted first, then by how far each is from its limit."""
    from ai_assets.statistics.chance import holm

    planned = [(against, reference, item) for against, reference in sides.items() for item in _planned(new, reference)]
    draws = min(MOST_DRAWS, max(LEAST_DRAWS, math.ceil(2 * len(planned) / settings.significance)))
    found = [
        _compared(new, against, reference, item, settings, draws, seed + number)
        for number, (against, reference, item) in enumerate(planned)
    ]
    chances = iter(holm([each.p for each in found if each.p is not None]))
    told = [each if each.p is None else _with_chance(each, next(chances), settings) for each in found]
    return tuple(sorted(told, key=lambda each: (not each.drifted, -(each.effect or 0) / each.limit)))


def _with_chance(found: Comparison, p: float, settings: "DriftSettings") -> Comparison:
    is_far = found.effect is not None and found.effect > found.limit
    return replace(found, p=p, drifted=is_far and p <= settings.significance)


def _planned(new: "Profile", reference: "Reference") -> Iterator[tuple[str, str, str]]:
    """Kind, look and slice."""
    for look in sorted(new.counts):
        for slice_ in sorted(new.counts[look]):
            if not slice_ or reference.has(look, slice_):
                yield MIX, look, slice_
    if len(reference.profiles) >= FEWEST_PARTITIONS:
        yield WORDS, WORDS, ""
    if len(new.vectors) and reference.has_vectors(new.space):
        yield VECTORS, VECTORS, ""


def _compared(
    new: "Profile",
    against: str,
    reference: "Reference",
    item: tuple[str, str, str],
    settings: "DriftSettings",
    draws: int,
    seed: int,
) -> Comparison:
    from ai_assets.statistics.drift import means_apart, mixes_apart, vectors_apart

    kind, look, slice_ = item
    limit = {MIX: settings.mix, WORDS: settings.unseen_words, VECTORS: settings.vectors}[kind]
    here, there = dict(new.counts.get(look, {}).get(slice_, {})), reference.counts(look, slice_)
    sizes = (sum(here.values()), there.total()) if kind == MIX else (new.documents, reference.documents)
    empty = Comparison(
        look=look, slice=slice_, against=against, kind=kind, n=sizes[0], reference_n=sizes[1], effect=None, limit=limit
    )
    if (missing := settings.least - min(sizes)) > 0:
        return replace(empty, missing=missing)
    if kind == MIX:
        apart = mixes_apart(here, there, draws=draws, seed=seed, level=settings.significance)
        return replace(empty, effect=apart.effect, p=apart.p, values=_moved(here, there))
    if kind == WORDS:
        apart = means_apart(*reference.unseen(new), draws=draws, seed=seed, level=settings.significance)
    else:
        vectors = reference.vectors(new.space).astype("float64")
        here_too = new.vectors.astype("float64")
        apart = vectors_apart(here_too, vectors, draws=draws, seed=seed, level=settings.significance)
    return replace(empty, effect=apart.effect, p=apart.p)


def _moved(here: Mapping[str, int], there: Mapping[str, int]) -> tuple[tuple[str, float, float], ...]:
    sizes = sum(here.values()), sum(there.values())
    shares = [(value, here.get(value, 0) / sizes[0], there.get(value, 0) / sizes[1]) for value in {*here, *there}]
    return tuple(sorted(shares, key=lambda each: (-abs(each[1] - each[2]), each[0]))[:SHOWN_VALUES])


def judge_drift(
    found: Sequence[Comparison], documents: int, live: int | None, settings: "DriftSettings"
) -> GateVerdict:
    """One verdict on all comparisons."""
    drifted = [each for each in found if each.drifted]
    judged = [each for each in found if each.effect is not None]
    ruling: Ruling = "failed" if drifted and settings.blocks != "no" else "passed" if judged else "undecided"
    holds = ruling == "failed" or (ruling == "undecided" and settings.undecided == "block")
    worst = max((each.effect / each.limit for each in judged if each.effect is not None), default=None)
    return GateVerdict(
        name=NAME,
        metric=NAME,
        stage=None,
        judge=NAME,
        value=None if worst is None else round(worst, 6),
        n=documents,
        baseline=Baseline(kind="live", value=1.0, release=live) if live is not None else None,
        margin=None if worst is None else round(1.0 - worst, 6),
        verdict=ruling,
        holds=holds,
        waivable=settings.blocks != "yes",
        sentence=_sentence(found, judged, drifted, live),
    )


def _sentence(
    found: Sequence[Comparison], judged: Sequence[Comparison], drifted: Sequence[Comparison], live: int | None
) -> str:
    if drifted:
        more = f"; and {len(drifted) - 2} more" if len(drifted) > 2 else ""
        return f"drift: {'; '.join(each.in_words for each in drifted[:2])}{more}"
    if judged:
        few = f"; {len(found) - len(judged)} had too few documents" if len(found) > len(judged) else ""
        return f"drift: none in {len(judged)} comparison{'s' * (len(judged) != 1)}{few}"
    if live is None:
        return "drift: not judged, because no release is live to compare with"
    if found:
        return f"drift: not judged; {plural(min(each.missing for each in found), 'more document')} needed"
    return "drift: not judged; the live release has nothing that this partition could be held against"
