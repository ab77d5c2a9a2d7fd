"""What a run shows against those before it: facts that the provider states, and answers that are others. Pure.

Each run has the same chance to raise an alarm by accident, whenever somebody looks: `CanarySettings.chance` is what the
alarms of a year leave for each of its comparisons (ADR 122).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural
from ai_assets.inference.canary.records import CanaryAnswer, CanaryChange, CanaryFact, CanaryRun, FactKind
from ai_assets.inference.canary_settings import WINDOWS, CanarySettings
from ai_assets.storage.digest import digest

DRAWS_PER_CHANCE = 2
"""So many draws for one that may be as rare as is asked for."""
MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class CanaryVerdict:
    """Of the last run of an epoch."""

    alike_at: str
    facts: tuple[CanaryFact, ...]


def compared(runs: Sequence[CanaryRun], settings: CanarySettings, earlier: Sequence[CanaryChange]) -> CanaryVerdict:
    """The last of the answered runs of one epoch, against those before it.

    Where a change of the epoch waits to be accepted, only what the provider states is compared, and with the last run
    alone: that answers are others is known.
    """
    answered = [run for run in runs if run.state == "asked"]
    last, before = answered[-1], answered[:-1]
    if not before:
        return CanaryVerdict(alike_at=last.started_at, facts=())
    if earlier:
        known = answered[-2:-1]
        return CanaryVerdict(alike_at=known[-1].started_at, facts=tuple(_stated(last, known, learned=True)))
    facts = list(_stated(last, before, learned=len(before) >= settings.baseline))
    alike_at = before[-1].started_at
    baseline, later = answered[: settings.baseline], answered[settings.baseline :]
    for window in WINDOWS if later else ():
        if window > 1 and len(later) < 2:
            continue
        new = later[-window:]
        found = list(_others(new, baseline, settings, known={fact.kind for fact in facts}))
        if found and window > 1:
            alike_at = answered[answered.index(new[0]) - 1].started_at
        facts += found
        if found:
            break  # what shows at once is dated by that, and needs no wider look
    return CanaryVerdict(alike_at=alike_at, facts=tuple(facts))


def _stated(last: CanaryRun, before: Sequence[CanaryRun], *, learned: bool) -> Iterator[CanaryFact]:
    """A name is said at once; of fingerprints and tokens it is first learned which there are."""
    pairs: tuple[tuple[FactKind, Callable[[CanaryAnswer], str | None], str, bool], ...] = (
        ("model", lambda each: each.model, "it names its model", True),
        ("fingerprint", lambda each: each.fingerprint, "its fingerprint is", learned),
        ("dimensions", lambda each: f"{each.dimensions:,}" if each.dimensions else None, "numbers in a vector:", True),
    )
    for kind, get, said, counts in pairs:
        now, was = _values([last], get), _values(before, get)
        if counts and now and was and (new := sorted(now - was)):
            yield CanaryFact(kind=kind, sentence=f"{said} {', '.join(new)}; before {', '.join(sorted(was))}")
    if learned:
        yield from _tokens(last, before)


def _values(runs: Sequence[CanaryRun], get: Callable[[CanaryAnswer], str | None]) -> set[str]:
    return {value for run in runs for each in run.answers if (value := get(each)) is not None}


def _tokens(last: CanaryRun, before: Sequence[CanaryRun]) -> Iterator[CanaryFact]:
    """The same question has the same input tokens, until something else counts them or is put before them."""
    old, new = (
        _by_question(before, lambda each: each.input_tokens),
        _by_question([last], lambda each: each.input_tokens),
    )
    moved = {
        name: (old[name][0], counts[0])
        for name, counts in new.items()
        if len({*old.get(name, ())}) == 1 and len({*counts}) == 1 and counts[0] != old[name][0]
    }
    if moved:
        was, now = (sum(pair[place] for pair in moved.values()) for place in (0, 1))
        questions = plural(len(moved), "question has", "questions have")
        yield CanaryFact(
            kind="input tokens", size=abs(now / was - 1) if was else None,
            sentence=f"{questions} {now:g} input tokens; before {was:g}",
        )  # fmt: skip


def _by_question(runs: Sequence[CanaryRun], get: Callable[[CanaryAnswer], float | None]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for each in run.answers:
            if (value := get(each)) is not None:
                found.setdefault(each.question, []).append(value)
    return found


def _others(
    new: Sequence[CanaryRun], old: Sequence[CanaryRun], settings: CanarySettings, known: set[FactKind]
) -> Iterator[CanaryFact]:
    from ai_assets.statistics.items_apart import answers_apart, numbers_apart

    draws = math.ceil(DRAWS_PER_CHANCE / settings.chance)
    seed = int(digest([[run.run_id, run.started_at] for run in (*old, *new)])[:12], 16)
    over = "" if len(new) == 1 else f" over {plural(len(new), 'run')}"
    names = sorted({each.question for run in (*old, *new) for each in run.answers})
    texts = [
        [[each.answer for run in side for each in run.answers if each.question == name] for name in names]
        for side in (new, old)
    ]
    apart = answers_apart(*texts, draws=draws, seed=seed)
    if apart.effect >= settings.answers and apart.p <= settings.chance:
        yield CanaryFact(
            kind="answers", size=apart.effect, p=apart.p,
            sentence=f"{apart.effect:.0%} of the answers are others{over} ({_moved(names, *texts)})",
        )  # fmt: skip
    numbers: tuple[tuple[FactKind, Callable[[CanaryAnswer], float | None]], ...] = (
        ("confidence", lambda each: each.confidence),
        ("length", lambda each: each.characters),
        ("output tokens", lambda each: each.output_tokens),
        ("vectors", lambda each: each.distance),
    )
    for kind, get in numbers:
        sides = [_by_question(side, get) for side in (new, old)]
        values = [[side.get(name, []) for name in names] for side in sides]
        relative = kind not in ("confidence", "vectors")
        apart = numbers_apart(*values, draws=draws, seed=seed, relative=relative)
        if kind not in known and apart.effect >= settings.least_of(kind) and apart.p <= settings.chance:
            was, now = (_mean(side) for side in reversed(values))
            by = f"{apart.effect:.0%}" if relative else f"{apart.effect:.2g}"
            said = f"{kind} moved by {by} on average{over}, from {was:.3g} to {now:.3g}"
            if kind == "vectors":
                said = f"vectors are {now:.2g} from the first ones{over}, by cosine and on average; before {was:.2g}"
            yield CanaryFact(kind=kind, size=apart.effect, p=apart.p, sentence=said)  # fmt: skip


def _mean(values: Sequence[Sequence[float]]) -> float:
    every = [value for each in values for value in each]
    return math.fsum(every) / len(every)


def _moved(names: Sequence[str], new: Sequence[Sequence[str]], old: Sequence[Sequence[str]]) -> str:
    """Which questions, by what they were answered with most."""
    found = []
    for name, now, was in zip(names, new, old, strict=True):
        if now and was and (to := Counter(now).most_common(1)[0][0]) != (of := Counter(was).most_common(1)[0][0]):
            was_said, now_said = _short(of), _short(to)
            found.append(f"{name}: {was_said} to {now_said if now_said != was_said else 'another text'}")
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more if found else "the same ones, in other shares"


def _short(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= 30 else f"{said[:29]}…"
