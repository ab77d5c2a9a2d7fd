"""When a device may be taken: the one question that whoever wants it asks, at the moment at which it is taken."""

import datetime
from collections.abc import Callable

from ai_assets.base.windows import WeeklyHours, common_opening
from ai_assets.inference.records import Priority
from ai_assets.local_models.devices import Placement
from ai_assets.local_models.errors import DeviceClosed


def refuse_closed(
    clock: Callable[[], datetime.datetime], placement: Placement, priority: Priority, hours: WeeklyHours
) -> None:
    """Raises DeviceClosed outside of the device's windows or of `hours`, which are those of who asks."""
    both = [placement.settings.hours, hours]
    if not any(both):
        return
    moment = clock()
    if not all(each.allowed(moment, priority) for each in both):
        raise DeviceClosed(placement.device, common_opening(both, moment), moment)
