"""Whether what is found holds a candidate back, as it is declared: YAML reads a plain `no` or `yes` as a boolean."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator


def _spoken(value: Any) -> Any:
    return {False: "no", True: "yes"}[value] if isinstance(value, bool) else value


Blocks: TypeAlias = Annotated[Literal["no", "waivable", "yes"], BeforeValidator(_spoken)]
