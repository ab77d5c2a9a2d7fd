"""How a device is named in a declaration, so that each has one name."""

from typing import Annotated

from pydantic import Field

_DEVICE = "cpu|mps|cuda(:(0|[1-9][0-9]?))?"

DeviceName = Annotated[str, Field(pattern=rf"^({_DEVICE})$")]
DeviceChoice = Annotated[str, Field(pattern=rf"^(auto|{_DEVICE})$")]
"""`auto` takes a GPU where there is one."""
