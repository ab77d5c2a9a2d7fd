"""A gate of one's own: no worse than what is live."""

from ai_assets.evaluation import GateCase, GateVerdict, gate


@gate
def no_worse_than_live(case: GateCase, *, by: float = 0.02) -> GateVerdict:
    """The metric is at most `by` below that of the live release. The first release has nothing to be worse than."""
    if case.score is None or case.score.value is None:
        return case.undecided(f"{case.gate.name}: there is no score to compare")
    if case.live is None or case.live.value is None:
        return case.undecided(f"{case.gate.name}: nothing is live to compare with", holds=False)
    margin = case.score.value - case.live.value + by
    say = case.passed if margin >= 0 else case.failed
    said = f"{case.gate.name}: {case.score.value:.3g} against {case.live.value:.3g} live, at most {by:g} lower"
    return say(said, baseline=case.baseline, margin=margin)
