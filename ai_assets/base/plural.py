"""A number and what it is a number of, as people write it."""


def plural(count: int, one: str, many: str | None = None) -> str:
    """Such as `1 document` or `1,200 queries`; `many` where more changes than the end of `one`, as a verb does."""
    return f"{count:,} {one if count == 1 else many or _many(one)}"


def _many(one: str) -> str:
    if one.endswith(("s", "x", "ch", "sh")):
        return f"{one}es"
    if one.endswith("y") and not one.endswith(("ay", "ey", "oy", "uy")):
        return f"{one[:-1]}ies"
    return f"{one}s"
