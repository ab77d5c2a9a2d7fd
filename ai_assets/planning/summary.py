"""What the estimates come to for people: money and time of each stage and of all, other ways, and what was assumed."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ai_assets.base.plural import plural
from ai_assets.inference.prices import (
    batch_price,
    call_price,
    price_at,
    prices_of_day,
    tier_prices,
    usual_batch_price,
)
from ai_assets.inference.settings import DEFAULT_TIER, Endpoint, TokenPrice
from ai_assets.planning.deadlines import deadline_plan
from ai_assets.planning.estimate import Estimate, Volume, money_of
from ai_assets.planning.findings import PlanContext
from ai_assets.planning.preview import READ_AHEAD
from ai_assets.planning.records import NOTHING, Alternative, DeadlinePlan, Money, Range, StagePlan
from ai_assets.planning.totals import Tally
from ai_assets.stages.base import BATCH

SLOWER = 2.0
"""Retries and the slowest answers may make it take so much longer."""


class Summary:
    """Of all stages that were asked for."""

    def __init__(self, around: PlanContext, tallies: Mapping[str, Tally], estimates: Mapping[str, Estimate]) -> None:
        self._around = around
        self._tallies = {name: tallies[name] for name in estimates}
        self._estimates = estimates
        self._prices = _prices(around)
        self.stages = [self._stage(name) for name in estimates]
        self.money = _sum(stage.money for stage in self.stages)

    def _stage(self, name: str) -> StagePlan:
        tally, found = self._tallies[name], self._estimates[name]
        calls, into = found.total("calls"), found.total("input_tokens")
        due = deadline_plan(self._around, name, tally.route, found) if calls.high > 0 else None
        tier = self._stage_tier(name) if due is None else DEFAULT_TIER if due.way == "sync" else due.way
        return StagePlan(
            stage=name,
            route=tally.route,
            endpoint=tally.endpoint,
            documents=tally.documents,
            kept=tally.kept,
            reused=tally.reused,
            held=tally.held,
            new_calls=round(calls.likely),
            calls=Range(low=math.floor(calls.low), likely=round(calls.likely), high=math.ceil(calls.high)),
            unknown=tally.unknown,
            input_tokens=round(into.likely),
            output_tokens=_whole(found.total("output_tokens")),
            tokens_from=found.tokens_from,
            output_from=found.output_from,
            money=self._money(name, found, tier) if due is None else _money_of_way(due),
            seconds=self._seconds(found.volumes),
            tier=_tier(tier, self._around.inference.endpoints.get(tally.endpoint)),
            deadline=due,
            opens=self._around.departures.opens(name),
        )

    def _money(self, stage: str, found: Estimate, tier: str | None) -> Money:
        """At the tier that is asked for and the price of the hour at which it leaves, and at most at the dearest tier
        that it may be served at and the dearest hour that it may last to."""
        endpoints, at = self._around.inference.endpoints, self._around.departures.moment(stage)
        if tier == BATCH:
            return money_of(found, {name: batch_price(name, endpoints[name], at) for name in found.volumes})
        tiers = {name: _tier(tier, endpoints[name]) for name in found.volumes}
        prices = {name: call_price(name, endpoints[name], at, tiers[name]) for name in found.volumes}
        money = money_of(found, prices)
        others = {
            name: [
                *(tier_prices(endpoints[name], at) if price.tier != DEFAULT_TIER else ()),
                *(prices_of_day(endpoints[name], at.date(), tiers[name]) if endpoints[name].priced_by_hour else ()),
            ]
            for name, price in prices.items()
        }
        dearer = [money_of(found, prices | {name: each}).high_nusd for name in others for each in others[name]]
        return replace(money, high_nusd=max([money.high_nusd, *dearer]))

    def _stage_tier(self, name: str) -> str | None:
        collection = self._around.work.collection
        tiers: dict[str, str | None] = {each.asset: each.settings.tier for each in collection.embeddings}
        return {**tiers, **{stage.name: stage.tier for stage in collection.stages}}.get(name)

    @property
    def seconds(self) -> Range | None:
        """Stages that share an endpoint share its limits; endpoints work beside one another."""
        together: dict[str, list[Volume]] = {}
        for found in self._estimates.values():
            for name, volume in found.volumes.items():
                together.setdefault(name, []).append(volume)
        return self._seconds(
            {
                name: Volume(
                    calls=_add(each.calls for each in volumes),
                    input_tokens=_add(each.input_tokens for each in volumes),
                    output_tokens=_add(each.output_tokens for each in volumes),
                )
                for name, volumes in together.items()
            }
        )

    def _seconds(self, volumes: Mapping[str, Volume]) -> Range | None:
        found = [self._wait(name, volume) for name, volume in volumes.items() if volume.calls.high > 0]
        if not found:
            return Range(low=0.0, likely=0.0, high=0.0)
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        return Range(
            low=max(each.low for each in known),
            likely=max(each.likely for each in known),
            high=max(each.high for each in known),
        )

    def _wait(self, name: str, volume: Volume) -> Range | None:
        """At the pace that is the slowest of all that limit it."""
        limits, latency = self._around.inference.endpoints[name].limits, self._latency(name)
        if latency is None and limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return None

        def at(bound: str) -> float:
            calls: float = getattr(volume.calls, bound)
            tokens: float = getattr(volume.input_tokens, bound) + getattr(volume.output_tokens, bound)
            waits = [math.ceil(calls / limits.concurrency) * (latency or 0.0)]
            if limits.requests_per_minute is not None:
                waits.append(60 * calls / limits.requests_per_minute)
            if limits.tokens_per_minute is not None:
                waits.append(60 * tokens / limits.tokens_per_minute)
            return max(waits)

        return Range(low=at("low"), likely=at("likely"), high=at("high") * SLOWER)

    def _latency(self, endpoint: str) -> float | None:
        found = [self._around.past[name].p50_s for name, each in self._estimates.items() if endpoint in each.volumes]
        known = [each for each in found if each is not None]
        return max(known) if known else None

    def alternatives(self) -> list[Alternative]:
        """The same new calls at every other endpoint that can answer them, and in a batch."""
        asking = {name: each for name, each in self._estimates.items() if self._tallies[name].kind != "embed"}
        used = {name for each in asking.values() for name, volume in each.volumes.items() if volume.calls.high > 0}
        if not used:
            return []
        rest = _sum(stage.money for stage in self.stages if stage.stage not in asking)
        found = list(self._by_batch())
        for name, price in self._prices.items():
            endpoint = self._around.inference.endpoints[name]
            if used == {name} or (not endpoint.free and price.output == 0):
                continue  # what costs nothing to say embeds
            money = rest + _sum(money_of(each, dict.fromkeys(each.volumes, price)) for each in asking.values())
            note = "all new calls there; what is kept or reused now would be asked again"
            found.append(Alternative(name=name, model=endpoint.llm, money=money, note=note))
        return sorted(found, key=lambda each: each.money.likely_nusd)

    def _by_batch(self) -> Iterator[Alternative]:
        """Unless all of it goes by batch as it is."""
        if all(stage.tier == BATCH for stage in self.stages if stage.calls.high):
            return
        endpoints = self._around.inference.endpoints
        names = {name for each in self._estimates.values() for name in each.volumes}
        day = self._around.departures.now.date()
        prices = {name: price for name in names if (price := usual_batch_price(endpoints[name], day)) is not None}
        declared = all(batch_price(name, endpoints[name], day) == price for name, price in prices.items())
        said = "at what is declared for a line of a batch" if declared else "at half the price, as providers have it"
        yield Alternative(
            name="by batch",
            model="as planned",
            money=_sum(money_of(each, prices) for each in self._estimates.values()),
            note=f"{said}; by tier: batch (docs/batch.md)",
        )

    def notes(self) -> list[str]:
        said = []
        read = self._around.read_ahead
        if read.unread:
            said.append(
                f"{read.unread:,} new or changed files are not parsed yet: their documents and tokens are estimated "
                f"from {read.files} that were read to plan, by bytes (at most {READ_AHEAD})."
            )
        for stage in self.stages:
            waits = [name for name in self._when(stage.stage) if not self._around.labels.get(name)]
            if stage.unknown and waits:
                said.append(f"{stage.stage}: nobody knows yet how often {' and '.join(waits)} lets a document through.")
            if stage.held:
                said.append(
                    f"{stage.stage}: {plural(stage.held, 'call')} may have been billed "
                    "and wait: ai-assets ledger ambiguous."
                )
        said += [note for stage in self.stages for note in self._notes_of_hours(stage)]
        said += [
            f"{stage.stage}: its calls travel by batch; a run does not wait for them, and they may take a day."
            if stage.tier == BATCH
            else f"{stage.stage}: asked for at the tier '{stage.tier}'; served without it, it may cost the most."
            for stage in self.stages
            if stage.tier is not None and stage.deadline is None
        ]
        said += [f"{stage.stage}: {_due_said(stage.deadline)}" for stage in self.stages if stage.deadline is not None]
        if any(stage.seconds is None for stage in self.stages):
            said.append("How long the model takes is not known: it has not been asked yet, and has no limits declared.")
        return said

    def _notes_of_hours(self, stage: StagePlan) -> Iterable[str]:
        if (waits := self._around.departures.said(stage.stage)) is not None:
            yield f"{stage.stage}: {waits}."
        endpoint = self._around.inference.endpoints.get(stage.endpoint)
        if stage.tier != BATCH and endpoint is not None and endpoint.priced_by_hour:
            when = "then" if stage.opens else "now"
            yield f"{stage.stage}: '{stage.endpoint}' is priced by the hour: likely that of {when}, the dearest at most"

    def _when(self, name: str) -> Sequence[str]:
        return next((list(stage.when) for stage in self._around.work.collection.stages if stage.name == name), [])


def _money_of_way(due: DeadlinePlan) -> Money:
    """By the way that is chosen; at most by the dearest that it may move to."""
    offered = {each.way: each.money for each in due.ways if each.money is not None}
    most = max(money.high_nusd for money in offered.values())
    return replace(offered[due.way], high_nusd=most)


def _due_said(due: DeadlinePlan) -> str:
    moves = f", and by {due.then} from {_minute(due.moves_at)} on" if due.moves_at is not None else ""
    return (
        f"{due.declared}, that is {_minute(due.due_at)}: by {due.way}{moves}, {due.chance:.0%} sure to be in time "
        f"({due.reason})."
    )


def _minute(moment: str) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC"


def _tier(declared: str | None, endpoint: Endpoint | None) -> str | None:
    """That calls are asked for at: the stage's, else the endpoint's; None for none."""
    tier = declared or (endpoint.tier if endpoint is not None else None)
    return None if tier == DEFAULT_TIER else tier


def _prices(around: PlanContext) -> dict[str, TokenPrice]:
    """Of every endpoint that has one now, at the tier that it is asked at."""
    at = around.departures.now
    found = {name: price_at(endpoint, at, endpoint.tier) for name, endpoint in around.inference.endpoints.items()}
    return {name: price for name, price in found.items() if price is not None}


def _sum(amounts: Iterable[Money]) -> Money:
    return sum(amounts, start=NOTHING)


def _add(ranges: Iterable[Range]) -> Range:
    found = list(ranges)
    return Range(
        low=sum(each.low for each in found),
        likely=sum(each.likely for each in found),
        high=sum(each.high for each in found),
    )


def _whole(found: Range) -> Range:
    return Range(low=math.floor(found.low), likely=round(found.likely), high=math.ceil(found.high))
