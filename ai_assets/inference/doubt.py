"""Whether what a provider counts for a call can be. Pure.

It may count more than was reserved: hidden instructions, tokens of reasoning, images. So it is believed in wide bounds;
beyond them it is nonsense, which may not use up a budget, and the reservation is counted.
"""

from ai_assets.base.plural import plural
from ai_assets.inference.ledger_messages import Hop
from ai_assets.inference.prices import cost_nusd
from ai_assets.inference.records import Usage

TIMES = 10
"""So many times the most that a call can use by its own bytes and limits, a provider is believed."""
ALWAYS = 2**17
"""So many tokens each way it is believed in any case: a reasoning model thinks for 65,536 of them about one word."""
COUNTED = "the reservation was counted"


def usage_doubt(hop: Hop, usage: Usage | None) -> str | None:
    """Why what was counted cannot be; None where it can, or nothing was counted."""
    if usage is None:
        return None
    into, out = usage.input_tokens, usage.output_tokens
    if usage.cached_tokens > into:
        cached = plural(usage.cached_tokens, "cached token")
        return f"the provider counted {cached} of {into:,} that went in, which cannot be"
    counted = f"the provider counted {plural(into, 'token')} in and {out:,} out"
    if not hop.tokens:
        if hop.reserve_nusd and cost_nusd(hop.price, usage) > TIMES * hop.reserve_nusd:
            return f"{counted}, more than {TIMES} times what was reserved"
        return None
    most_into, most_out = hop.tokens - hop.output_tokens, hop.output_tokens
    if into > max(TIMES * most_into, ALWAYS) or out > max(TIMES * most_out, ALWAYS):
        return f"{counted}, and the call can have had {most_into:,} and {most_out:,} at most"
    return None
