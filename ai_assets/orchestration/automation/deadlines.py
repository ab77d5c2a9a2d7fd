"""The clock of the desk: new requests are told of, old ones remind, escalate and expire, and messages are sent.

It makes the checkpoints of the audit chain too, and gives them to witnesses.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.automation.shared_work import done_elsewhere

if TYPE_CHECKING:
    from ai_assets.signoff.witness_settings import CheckpointSettings
    from ai_assets.storage.stores import Stores

INTERVAL_S = 60
SENDING_S = 3.0
"""Sensors take turns: a slow channel is not waited for much longer."""


def deadlines(collections: Sequence[Collection], name: str = "signoff_deadlines") -> dg.SensorDefinition:
    """One for all collections. It asks for no runs, so it has no job."""

    @dg.sensor(
        name=name,
        minimum_interval_seconds=INTERVAL_S,
        description="Reminds, escalates and expires requests by their age, and sends the messages. Makes checkpoints "
        "of the audit chain and gives them to witnesses. Approves nothing.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ai_assets.desk.settings import desk_address, load_desk
        from ai_assets.signoff import delivery, held_sla, sla
        from ai_assets.storage.state import now
        from ai_assets.storage.stores import Stores

        moment = now()
        with Stores.at(Home.from_environment()) as stores:
            seen = sla.announce(stores.state, collections, moment, int(context.cursor or 0))
            context.update_cursor(str(seen))
            steps = sla.advance(stores.state, collections, moment)
            steps += held_sla.advance_held(stores.state, collections, moment)
            if other := done_elsewhere():
                return dg.SkipReason(f"{plural(steps, 'step')} taken; messages and checkpoints: {other}")
            try:
                desk = load_desk(stores.home.desk)
            except UserError as error:
                return dg.SkipReason(f"{plural(steps, 'step')} taken; no message was sent: {error}")
            channels = {name: channel.url_env for name, channel in desk.channels.items()}
            url = desk_address(desk)
            sent = delivery.deliver(stores.state, channels, moment, desk_url=url, budget_s=SENDING_S)
            witnessed = _witness(stores, desk.checkpoints, channels, moment)
        said = f"{plural(steps, 'step')} taken; {plural(sent.messages, 'message')} sent"
        said = f"{said}, {sent.failed} to try again" if sent.failed else said
        return dg.SkipReason("; ".join([said, *witnessed]))

    return body


def _witness(stores: "Stores", settings: "CheckpointSettings", channels: Mapping[str, str], moment: str) -> list[str]:
    """A checkpoint where one is due, and the newest one to who has not got it. What there is to say of it."""
    from ai_assets.signoff import checkpoints, witnesses

    said = []
    try:
        with stores.state.read() as connection:
            due = checkpoints.is_due(connection, settings.every_minutes, moment)
        if due:
            said.append(f"checkpoint of {plural(checkpoints.make(stores).note.size, 'audit record')}")
        given = witnesses.deliver(stores, settings.witnesses, channels, moment, budget_s=SENDING_S)
    except (UserError, OSError) as error:
        return [*said, f"no checkpoint was made: {error}"]
    said += [f"given to {plural(given.sent, 'witness')}"] if given.sent else []
    return said + ([f"{plural(given.failed, 'witness')} to try again"] if given.failed else [])
