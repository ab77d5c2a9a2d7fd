"""What a plan says of a stage with a deadline: the price of each way, its chance to be in time, and which one a run
would take now. What it is decided by is that of a run, with refused files and lines on their way."""

import datetime
from collections.abc import Mapping

import sqlalchemy as sa

from ai_assets.base.due import DeclaredDeadline
from ai_assets.collection.deadlines import deadlines_of, levels_after
from ai_assets.inference.deadline import START_S, CallLoad, Way, WayChoice, choose
from ai_assets.inference.errors import DueOver
from ai_assets.inference.ledger_clock import store_clock
from ai_assets.inference.prices import batch_price, call_price, price_at
from ai_assets.inference.records import RequestKind
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings, TokenPrice
from ai_assets.inference.way_offers import FLEX, call_tokens, offers_of
from ai_assets.inference.ways import batch_standing, open_since, text_of
from ai_assets.planning.estimate import Estimate, money_of
from ai_assets.planning.findings import PlanContext
from ai_assets.planning.records import DeadlinePlan, Money, WayPlan


def deadline_plan(around: PlanContext, asset: str, route: str, found: Estimate) -> DeadlinePlan | None:
    """None for an asset without a deadline."""
    collection = around.work.collection
    deadline = deadlines_of(collection.settings).get(asset)
    if deadline is None:
        return None
    names = names_of(around.inference, route)
    with around.work.stores.state.read() as connection:
        at = store_clock(connection)
        since = _since(connection, collection.name, asset, deadline, at)
        is_embedding = asset in {each.asset for each in collection.embeddings}
        asks_for: RequestKind = "embedding" if is_embedding else "chat"
        due = deadline.moment(since)
        standing = batch_standing(connection, around.inference, names, since, due.at)
        offers = offers_of(connection, around.inference, names, at, asks_for=asks_for, no_batch=standing.refused)
        load = _load(found, standing.travelling, call_tokens(connection, names[0]))
    follows_s = levels_after(collection, asset) * (offers.sync.sure_s(load) + START_S)
    choice = choose((due.at - at).total_seconds() - follows_s, load, offers)
    moves_at = due.at - datetime.timedelta(seconds=choice.buffer_s + follows_s)
    return DeadlinePlan(
        declared=str(deadline),
        due_at=text_of(due.at),
        way=choice.way,
        then=choice.then,
        moves_at=None if choice.then is None else text_of(moves_at),
        chance=choice.chance,
        reason=choice.reason if due.note is None else f"{choice.reason}; {due.note}",
        ways=_ways(around.inference, names, found, choice, at.date(), has_flex=offers.flex is not None),
    )


def _since(
    connection: sa.Connection, collection: str, asset: str, deadline: DeclaredDeadline, at: datetime.datetime
) -> datetime.datetime:
    """Where a run has begun to ask, it is due as that run said."""
    date = deadline.absolute
    since = open_since(connection, collection, asset, at, is_date=date is not None)
    if since is None and date is not None and date <= at:
        raise DueOver(collection, asset, deadline.due or "", deadline.timezone)
    return since or at


def _load(found: Estimate, travelling: int, tokens_each: float) -> CallLoad:
    """With what travels already."""
    tokens = found.total("input_tokens").likely + found.total("output_tokens").likely
    return CallLoad(calls=round(found.total("calls").likely) + travelling, tokens=tokens + travelling * tokens_each)


def _ways(
    inference: InferenceSettings,
    names: tuple[str, ...],
    found: Estimate,
    choice: WayChoice,
    today: datetime.date,
    *,
    has_flex: bool,
) -> tuple[WayPlan, ...]:
    prices: Mapping[Way, TokenPrice | None] = {
        "batch": next(
            (batch_price(name, inference.endpoints[name], today) for name in names if inference.endpoints[name].batch),
            None,
        ),
        "flex": price_at(inference.endpoints[names[0]], today, FLEX) if has_flex else None,
        "sync": call_price(names[0], inference.endpoints[names[0]], today),
    }
    return tuple(
        WayPlan(way=each.way, chance=each.chance, money=_money(found, prices[each.way])) for each in choice.outlook
    )


def _money(found: Estimate, price: TokenPrice | None) -> Money | None:
    return None if price is None else money_of(found, dict.fromkeys(found.volumes, price))
