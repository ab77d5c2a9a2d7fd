"""When a device may be taken: the one question that whoever wants it asks, at the moment at which it is taken."""

from ai_assets.base.windows import WeeklyHours, common_opening
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.records import Priority
from ai_assets.local_models.devices import Placement
from ai_assets.local_models.errors import DeviceClosed
from ai_assets.storage.state import StateStore


def refuse_closed(state: StateStore, placement: Placement, priority: Priority, hours: WeeklyHours) -> None:
    """Raises DeviceClosed outside of the device's windows or of `hours`, which are those of who asks."""
    both = [placement.settings.hours, hours]
    if not any(both):
        return
    moment = store_moment(state)
    if not all(each.allowed(moment, priority) for each in both):
        raise DeviceClosed(placement.device, common_opening(both, moment), moment)
