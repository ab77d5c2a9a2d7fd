"""What `shares` of an endpoint may hold."""

from typing import Annotated

from pydantic import Field

ShareWeight = Annotated[float, Field(strict=True, gt=0, le=1000)]
PartyName = Annotated[str, Field(min_length=1, max_length=200)]
Shares = dict[PartyName, ShareWeight]
"""Weights by collection or tenant; who is not named has 1."""
