"""How many more of something would be enough: the one search behind every `so many more labels needed`."""

from collections.abc import Callable


def fewest_more(is_enough: Callable[[int], bool], most: int) -> int | None:
    """The least number for which it is enough; None where not even `most` are. Doubled, then halved: where rounding
    makes `is_enough` not quite monotonic, it is the least one near the first that was found."""
    if most < 1:
        return None
    high = 1
    while not is_enough(high):
        if high == most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
