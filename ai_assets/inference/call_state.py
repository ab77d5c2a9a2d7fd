"""A request on its way: what it asks where, what it has cost so far, and the result it ends with. Pure."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_assets.base.money import in_full
from ai_assets.base.windows import Opening
from ai_assets.inference.accounts import Accounts
from ai_assets.inference.doubt import COUNTED, usage_doubt
from ai_assets.inference.errors import (
    BatchUndeclared,
    EndpointNotForTenant,
    KindUnserved,
    PriorityUnknown,
    ProtocolFailed,
)
from ai_assets.inference.fairness import lane_of
from ai_assets.inference.identity import body_of, call_key, key_within
from ai_assets.inference.ledger_messages import AttemptEnd, Claim, Hop, Intent, ReusedAnswer
from ai_assets.inference.prices import (
    Served,
    batch_price,
    call_price,
    cost_nusd,
    input_tokens_at_most,
    nusd_of,
    price_at,
    served_at,
    tier_prices,
    usd_of,
    worst_case_nusd,
)
from ai_assets.inference.records import (
    NO_USAGE,
    OF_TEXTS,
    PRIORITIES,
    Answer,
    Caller,
    ErrorClass,
    Priority,
    Request,
    Result,
    Unanswered,
    Usage,
    may_be_billed,
)
from ai_assets.inference.routes import endpoints_for
from ai_assets.inference.settings import DEFAULT_TIER, Endpoint, InferenceSettings, TokenPrice
from ai_assets.inference.validation import parse, repair_of, text_problem
from ai_assets.protocols.base import AS_USUAL, CallDelivery, Fault, NotAnAnswer, Reply
from ai_assets.protocols.registry import protocol_of


@dataclass(slots=True, eq=False)
class CallState:
    asked: Request
    request: Request
    """As asked, or its repair."""
    claim: Claim
    moment: datetime.datetime
    """By the ledger's clock: when it was asked, whose prices and budgets count unless hours have others."""
    spent_nusd: int = 0
    saved_nusd: int = 0
    maybe_nusd: int = 0
    attempts: int = 0
    sent_key: str = ""
    """Of the call that was sent last: another one is a repair, or asks another endpoint."""
    repaired: bool = False
    latency_s: float = 0.0
    heard: bool = False
    """Somebody has heard a piece of its answer."""
    probes: bool = False
    """Sent to an endpoint that is held to be slow, to see whether it still is."""
    busy: bool = False
    """An intent is being made or is open: it may not be abandoned."""
    recalled: ReusedAnswer | None = None
    """The answer of the ledger that was looked at last."""
    noted: object = None
    """What a `CallListener` keeps of it."""


def ticket_for(
    settings: InferenceSettings,
    accounts: Accounts,
    request: Request,
    caller: Caller,
    moment: datetime.datetime | None = None,
    *,
    in_batch: bool = False,
    priority: Priority | None = None,
) -> CallState:
    """May raise RouteUnknown, PriorityUnknown, PriceUnknown, KindUnserved, Unhashable, and what `_apart` does.

    `moment` is by the ledger's clock, and now unless it is said. `priority`: of a request that has none.
    """
    apart, priority = _apart(settings, caller), priority or _priority_of(settings, caller)
    asked, request = request, request if request.priority or not priority else replace(request, priority=priority)
    moment = moment or datetime.datetime.now(datetime.UTC)
    today = moment.date()
    oldest = None
    if request.reuse_for_s is not None:
        oldest = (moment - datetime.timedelta(seconds=request.reuse_for_s)).isoformat(timespec="milliseconds")
    named = endpoints_for(settings, request)
    _refuse_endpoints(settings, caller, named)
    hops = tuple(_hop(*each, request, moment, caller, in_batch=in_batch, apart=apart) for each in named)
    at = next((number for number, hop in enumerate(hops) if hop.in_batch), None) if in_batch else 0
    if at is None:
        raise BatchUndeclared(request.route, [hop.name for hop in hops], request.asks_for)
    claim = Claim(
        hops=hops,
        at=at,
        caller=caller,
        document=request.document,
        kind=request.kind,
        accounts=accounts.of(caller, request.document, today),
        oldest=oldest,
        on_ambiguous=request.on_ambiguous,
        prompt=request.prompt,
        apart=apart,
    )
    return CallState(asked, request, claim, moment)


def _apart(settings: InferenceSettings, caller: Caller) -> str:
    """The tenant whose answers alone count. Raises TenantUndeclared."""
    if not settings.tenants:
        return ""
    who = f"collection '{caller.collection}'" if caller.collection else "who asks"
    settings.tenants.require(caller.tenant, who)
    return caller.tenant


def _priority_of(settings: InferenceSettings, caller: Caller) -> Priority | None:
    declared = settings.tenants.settings_of(caller.tenant).priority
    return None if declared == "normal" else declared


def _refuse_endpoints(settings: InferenceSettings, caller: Caller, named: Sequence[tuple[str, Endpoint]]) -> None:
    for name, endpoint in named if settings.tenants else ():
        if problem := settings.tenants.why_not(caller.tenant, name, endpoint.key):
            raise EndpointNotForTenant(caller.tenant, name, problem)


def _hop(
    name: str,
    endpoint: Endpoint,
    request: Request,
    moment: datetime.datetime,
    caller: Caller,
    *,
    in_batch: bool = False,
    apart: str = "",
) -> Hop:
    in_batch = in_batch and endpoint.has_batches_of(request.asks_for)
    price = (batch_price if in_batch else call_price)(name, endpoint, moment)
    protocol = protocol_of(endpoint.protocol)
    if request.asks_for not in protocol.kinds:
        classifies = request.asks_for == "chat" and "predict" in protocol.kinds
        raise KindUnserved(name, protocol.name, request.asks_for, classifies=classifies)
    body = body_of(endpoint, request)
    into, out = _most_tokens(endpoint, request)
    most_usd = request.raw.max_usd if request.raw is not None else None
    delivery, prices = (AS_USUAL, ()) if in_batch else _delivery(name, endpoint, request, moment, caller)
    if prices:
        price = _dearest(prices, into, out)
    reserve = worst_case_nusd(price, into, out) if most_usd is None else nusd_of(most_usd)
    key = call_key(endpoint, body, request.sample, request.asks_for)
    return Hop(
        name=name,
        endpoint=endpoint,
        price=price,
        key=key_within(apart, key) if apart else key,
        earlier_key=key if apart else "",
        body=body,
        reserve_nusd=reserve,
        flat=most_usd is not None,
        tokens=into + out,
        output_tokens=out,
        delivery=delivery,
        lane=lane_of(endpoint.shares, delivery.priority, caller, by_tenant=bool(apart)),
        prices=prices,
        in_batch=in_batch,
    )


def _most_tokens(endpoint: Endpoint, request: Request) -> tuple[int, int]:
    """Input and output."""
    if request.raw is not None:
        return request.raw.input_tokens, request.raw.output_tokens
    out = 0 if request.asks_for in OF_TEXTS else request.max_output_tokens
    return input_tokens_at_most(request, endpoint.image_tokens), out


def _dearest(prices: Sequence[TokenPrice], into: int, out: int) -> TokenPrice:
    return max(prices, key=lambda each: worst_case_nusd(each, into, out))


def repriced(ticket: CallState, at: int, moment: datetime.datetime) -> None:
    """Where prices differ by the hour: a call that is about to leave is reserved and counted at those of now."""
    hop = ticket.claim.hops[at]
    if not hop.endpoint.priced_by_hour or hop.in_batch:
        return
    prices = tier_prices(hop.endpoint, moment) if hop.prices else ()
    into, out = _most_tokens(hop.endpoint, ticket.request)
    price = _dearest(prices, into, out) if prices else call_price(hop.name, hop.endpoint, moment)
    if price == hop.price and prices == hop.prices:
        return
    reserve = hop.reserve_nusd if hop.flat else worst_case_nusd(price, into, out)
    hops = list(ticket.claim.hops)
    hops[at] = replace(hop, price=price, prices=prices, reserve_nusd=reserve)
    ticket.claim = replace(ticket.claim, hops=tuple(hops))


def _delivery(
    name: str, endpoint: Endpoint, request: Request, moment: datetime.datetime, caller: Caller
) -> tuple[CallDelivery, tuple[TokenPrice, ...]]:
    """How it is to be served, and the prices of the tiers that it may be served at where there are several."""
    tier = _tier(endpoint, request, moment)
    priority = request.priority or ("batch" if caller.backfill else "normal")
    if priority not in PRIORITIES:
        raise PriorityUnknown(priority)
    delivery = AS_USUAL if tier is None and priority == "normal" else CallDelivery(tier=tier, priority=priority)
    if tier is not None:
        call_price(name, endpoint, moment, tier)
    by_tier = tier is not None or any(price.tier != DEFAULT_TIER for price in endpoint.prices)
    return delivery, tier_prices(endpoint, moment) if by_tier else ()


def _tier(endpoint: Endpoint, request: Request, moment: datetime.datetime) -> str | None:
    """That is asked for; None for the usual one."""
    tier = endpoint.tier if request.tier is None else request.tier
    if tier in (None, DEFAULT_TIER) or request.asks_for not in protocol_of(endpoint.protocol).tiered:
        return None
    is_priced = not endpoint.free and price_at(endpoint, moment, tier) is not None
    return tier if is_priced or not request.tier_where_priced else None


def ended(opened: Intent, outcome: Reply | Fault, latency_s: float | None) -> AttemptEnd:
    """What the ledger records of an attempt."""
    hop = opened.hop
    doubt = usage_doubt(hop, outcome.usage)
    usage = None if doubt else outcome.usage
    if isinstance(outcome, Reply):
        # An answer that does not say what it used is counted as the most it can have used.
        unsaid = f"{doubt or 'no usage was reported'}; {COUNTED}" if usage is None else None
        served = _served(hop, outcome.tier, usage)
        return AttemptEnd(
            opened=opened,
            state="settled",
            message="tokens do not say what it cost; the most that was declared was counted"
            if hop.flat
            else unsaid or served.note,
            latency_s=latency_s,
            usage=usage or NO_USAGE,
            cost_nusd=hop.reserve_nusd if usage is None or hop.flat else cost_nusd(served.price, usage),
            body=outcome.body,
            provider_id=outcome.provider_id,
            answered_model=outcome.model,
            served=(outcome.tier or "", _version(hop, served)) if hop.prices else None,
        )
    cost = hop.reserve_nusd if doubt else _cost_nusd(hop, outcome)
    return AttemptEnd(
        opened=opened,
        state="ambiguous" if cost is None else "failed",
        error=outcome.error,
        message=f"{outcome.message}; {doubt}; {COUNTED}" if doubt else outcome.message,
        latency_s=latency_s,
        usage=usage or NO_USAGE,
        cost_nusd=cost,
        body=outcome.body,
        provider_id=outcome.provider_id,
    )


def _served(hop: Hop, tier: str | None, usage: Usage | None) -> Served:
    if not hop.prices:
        return Served(price=hop.price)
    return served_at(hop.prices, hop.delivery.tier, tier, usage or NO_USAGE)


def _version(hop: Hop, served: Served) -> str:
    return "free" if hop.endpoint.free else served.price.version


def _cost_nusd(hop: Hop, fault: Fault) -> int | None:
    """What the provider counted, else nothing where that is sure. None: it may have been billed."""
    if fault.usage is not None:
        return cost_nusd(_served(hop, fault.tier, fault.usage).price, fault.usage)
    # A refusal that came as an answer is no error of HTTP, so no promise about errors covers it.
    free = (hop.endpoint.errors_are_free and not fault.answered) or hop.endpoint.free
    return None if may_be_billed(fault.error, errors_are_free=free) else 0


def reply_of(ticket: CallState, reused: ReusedAnswer) -> Reply:
    """The answer of the ledger, read by what wrote it: the protocol is a part of the call's key."""
    ticket.recalled = reused
    return read(reused.hop.endpoint, reused.body, ticket.request)


def read(endpoint: Endpoint, body: str, request: Request) -> Reply:
    """An answer that was settled. One about a text that is none by now has nothing in it, and `judged` says so."""
    protocol = protocol_of(endpoint.protocol)
    try:
        reply = protocol.decode(body, request.asks_for)
        if isinstance(reply, Fault):
            raise NotAnAnswer("a refusal cannot have been settled")
    except Exception as error:
        if isinstance(error, NotAnAnswer) and request.asks_for in OF_TEXTS:
            return Reply(body=body)
        raise ProtocolFailed(protocol.name, error, body) from error
    return replace(reply, body=body)


def fits(ticket: CallState, hop: Hop, body: str) -> bool:
    """Whether an answer of the ledger about a text can be used, or is asked for again."""
    return text_problem(ticket.request, read(hop.endpoint, body, ticket.request)) is None


def judged(ticket: CallState, hop: Hop, reply: Reply) -> Result | None:
    """The answer, or why it cannot be used; None: the ticket now asks for its repair, of the same endpoint, or asks
    again because the answer of the ledger is no use."""
    if ticket.request.asks_for in OF_TEXTS and (problem := text_problem(ticket.request, reply)) is not None:
        return _unfit(ticket, hop, reply, problem)
    verdict = parse(ticket.request, reply)
    problem = verdict.problem
    if problem is None:
        answer = _answer(ticket, hop, reply, verdict.data)
        problem = ticket.request.check(answer) if ticket.request.check is not None else None
        if problem is None:
            return answer
    if ticket.repaired or not verdict.repairable:
        return unanswered(ticket, hop, "invalid_output", problem, reply.text)
    again = repair_of(replace(ticket.request, route=hop.name), reply, problem)
    claim = ticket.claim
    repair = _hop(
        hop.name, hop.endpoint, again, ticket.moment, claim.caller, in_batch=hop.in_batch, apart=claim.apart
    )  # fmt: skip
    ticket.claim = replace(ticket.claim, hops=(repair,), at=0)
    ticket.request, ticket.repaired = again, True
    return None


def _unfit(ticket: CallState, hop: Hop, reply: Reply, problem: str) -> Unanswered | None:
    """No repair can be asked of what answers about a text: the same is asked again, of an answer that came just now by
    the next run."""
    if ticket.attempts == 0 and (recalled := ticket.recalled) is not None:
        ticket.saved_nusd -= recalled.cost_nusd
        ticket.claim = replace(ticket.claim, unfit=ticket.claim.unfit | {recalled.attempt_id})
        return None
    found = unanswered(ticket, hop, "invalid_output", problem)
    return replace(found, vector_length=len(reply.vector) or None)


def _answer(ticket: CallState, hop: Hop, reply: Reply, data: Any) -> Answer:
    doubt = usage_doubt(hop, reply.usage)
    return Answer(
        request=ticket.asked,
        call=hop.key,
        endpoint=hop.name,
        model=reply.model or hop.endpoint.llm,
        text=reply.text,
        data=data,
        vector=reply.vector,
        score=reply.score,
        labels=reply.labels,
        tool_calls=reply.tool_calls,
        token_logprobs=reply.token_logprobs,
        finish_reason=reply.finish_reason,
        usage=NO_USAGE if doubt else reply.usage or NO_USAGE,
        usage_doubt=doubt,
        cost_usd=usd_of(ticket.spent_nusd),
        saved_usd=usd_of(ticket.saved_nusd),
        maybe_usd=usd_of(ticket.maybe_nusd),
        attempts=ticket.attempts,
        reused=ticket.attempts == 0,
        repaired=ticket.repaired,
        latency_s=ticket.latency_s,
        tier=reply.tier,
        fingerprint=reply.fingerprint,
    )


def unanswered(
    ticket: CallState,
    hop: Hop,
    error: ErrorClass,
    message: str,
    raw: str | None = None,
    *,
    opens: Opening | None = None,
) -> Unanswered:
    return Unanswered(
        request=ticket.asked,
        error=error,
        message=message,
        call=hop.key,
        endpoint=hop.name,
        raw=raw,
        cost_usd=usd_of(ticket.spent_nusd),
        saved_usd=usd_of(ticket.saved_nusd),
        maybe_usd=usd_of(ticket.maybe_nusd),
        attempts=ticket.attempts,
        opens=opens,
    )


def held(ticket: CallState, hop: Hop, reserved_nusd: int, found: str) -> Unanswered:
    message = (
        f"{found}: it may have been billed ({in_full(usd_of(reserved_nusd))} at most), and such calls are held here. "
        f"Look: ai-assets ledger show {hop.key}; then: ai-assets ledger resolve {hop.key} --billed or --not-billed"
    )
    return unanswered(ticket, hop, "held", message)
