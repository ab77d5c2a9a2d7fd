"""The clock of the desk: new requests are told of, old ones remind, escalate and expire, and messages are sent."""

from collections.abc import Sequence

import dagster as dg

from ai_assets.collection import Collection
from resources.errors import UserError
from resources.settings import Home

INTERVAL_S = 60
SENDING_S = 3.0
"""Sensors take turns: a slow channel is not waited for much longer."""


def deadlines(collections: Sequence[Collection]) -> dg.SensorDefinition:
    """One for all collections. It asks for no runs, so it has no job."""

    @dg.sensor(
        name="signoff_deadlines",
        minimum_interval_seconds=INTERVAL_S,
        description="Reminds, escalates and expires requests by their age, and sends the messages. Approves nothing.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ai_assets.desk.settings import desk_address, load_desk
        from ai_assets.signoff import delivery, sla
        from ai_assets.work import Stores
        from resources.state import now

        moment = now()
        with Stores.at(Home.from_environment()) as stores:
            seen = sla.announce(stores.state, collections, moment, int(context.cursor or 0))
            context.update_cursor(str(seen))
            steps = sla.advance(stores.state, collections, moment)
            try:
                desk = load_desk(stores.home.desk)
            except UserError as error:
                return dg.SkipReason(f"{_count(steps, 'step')} taken; no message was sent: {error}")
            channels = {name: channel.url_env for name, channel in desk.channels.items()}
            url = desk_address(desk)
            sent = delivery.deliver(stores.state, channels, moment, desk_url=url, budget_s=SENDING_S)
        said = f"{_count(steps, 'step')} taken; {_count(sent.messages, 'message')} sent"
        return dg.SkipReason(f"{said}, {sent.failed} to try again" if sent.failed else said)

    return body


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
