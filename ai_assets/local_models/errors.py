"""Errors of models that run here. They hang below `UserError`.

ModelUnusable     no folder or package of that name, no weights, or weights that torch cannot load
DimensionsDiffer  a model's vectors have another length than what is declared
DeviceAbsent      the device that is declared is not there
DeviceClosed      its window, or that of who asks, is closed
DeviceUnpriced    nobody said what an hour of the device costs
DeviceOccupied    another process has held the device for longer than one waits
TextDoesNotFit    one text alone is too much for the memory of the device
ModelProcessDied  the process of the model ended while it computed
ModelFailed       the model raised something else
"""

import datetime

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.base.windows import Opening


class ModelUnusable(UserError):
    def __init__(self, model: str, found: str) -> None:
        super().__init__(f"the model '{model}' cannot be used: {found}")


class DimensionsDiffer(UserError):
    def __init__(self, model: str, *, found: int, declared: int) -> None:
        super().__init__(
            f"the vectors of '{model}' have {plural(found, 'number')}, and {declared} "
            f"are declared; write dimensions: {found}, "
            "or leave the key out"
        )


class DeviceAbsent(UserError):
    def __init__(self, device: str, found: str) -> None:
        super().__init__(
            f"The device {device} is not there: {found}. Write device: cpu (or auto, which takes a GPU where there is "
            "one), or install a torch that knows this GPU."
        )


class DeviceClosed(UserError):
    passes = True

    def __init__(self, device: str, opens: Opening | None, moment: datetime.datetime) -> None:
        until = "and no window of it ever opens" if opens is None else f"until {opens.said(moment)}"
        super().__init__(
            f"The device {device} may not be taken now, {until}. Run again then; work that somebody waits for "
            "(priority: interactive) may take it at any time."
        )
        self.opens, self.moment = opens, moment


class DeviceUnpriced(UserError):
    def __init__(self, device: str) -> None:
        super().__init__(
            f"No price is declared for the device {device}. In inference.yaml write what an hour of it costs, "
            f"devices: {{{device.partition(':')[0]}: {{usd_per_hour: 1.50}}}}, or free: true."
        )


class DeviceOccupied(UserError):
    passes = True

    def __init__(self, device: str, holder: str, waited_s: float) -> None:
        super().__init__(
            f"The device {device} is still held by {holder} after {waited_s:.0f} s. Run again when it has ended; "
            "how long one waits is devices.wait_s in inference.yaml."
        )


class TextDoesNotFit(UserError):
    def __init__(self, model: str, device: str, found: str) -> None:
        super().__init__(
            f"The model '{model}' ran out of memory on {device}: {found}. Take a smaller model or another device, or "
            "end what else uses this one."
        )


class ModelProcessDied(UserError):
    def __init__(self, model: str, device: str, found: str) -> None:
        super().__init__(
            f"The process of the model '{model}' on {device} ended while it computed ({found}): killed, or out of the "
            "memory of the machine. Run again; what was embedded before is kept."
        )


class ModelFailed(UserError):
    def __init__(self, model: str, device: str, found: str) -> None:
        super().__init__(f"The model '{model}' failed on {device}: {found}")
