"""Log probabilities of an answer's tokens: those of a label multiply to the confidence it was given."""

import math
from typing import Any

from ai_assets.rehearsal.faults import share
from ai_assets.rehearsal.schemas import SchemaValue
from ai_assets.rehearsal.tokens import split

_OTHERS = (" the", ",", " a", "\n", " of", ".", " and", " in", '"', " to", " is", ":", " it", " for", " on", " as")
_LEAST = -9999.0
"""What OpenAI gives for a probability of nought."""


def token_logprobs(content: str, filled: SchemaValue | None, top: int) -> list[dict[str, Any]]:
    """One entry per token, with `top` alternatives each."""
    spots = filled.label_spots() if filled is not None else []
    found, at = [], 0
    for number, token in enumerate(split(content)):
        end = at + len(token)
        spot = next((spot for spot in spots if spot.start < end and at < spot.end), None)
        if spot is None:
            probability = 1 - 0.03 * share(f"{number}:{token}")
        elif at <= spot.start:
            probability = spot.confidence
        else:
            probability = 1.0
        alternative = (spot.runner_up, spot.runner_up_confidence) if spot is not None and at <= spot.start else None
        found.append(_entry(token, probability, top, alternative))
        at = end
    return found


def _entry(token: str, probability: float, top: int, alternative: tuple[str, float] | None) -> dict[str, Any]:
    likely = {token: probability}
    left = 1 - probability
    if alternative is not None and alternative[0]:
        first = split(alternative[0])[0]
        likely.setdefault(first, min(alternative[1], left))
        left = max(left - alternative[1], 0.0)
    for other in _OTHERS:
        if len(likely) >= top:
            break
        left /= 2
        likely.setdefault(other, left)
    for number in range(top - len(likely)):
        likely[f"<{number}>"] = 0.0
    ranked = sorted(likely.items(), key=lambda item: -item[1])[:top]
    return {**_one(token, probability), "top_logprobs": [_one(*each) for each in ranked]}


def _one(token: str, probability: float) -> dict[str, Any]:
    logprob = math.log(probability) if probability > 0 else _LEAST
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
