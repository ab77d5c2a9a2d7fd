"""How much dearer the same is with more of it."""

import time
from collections.abc import Callable


def growth(do: Callable[[int], object], few: int, many: int, turns: int = 3) -> float:
    """Processor time with `many` as a multiple of that with `few`, each the least of its turns: what else the machine
    does, and this process for itself, only ever adds to it. Of eight times as many, 8 is linear and 64 quadratic."""

    def seconds(number: int) -> float:
        started = time.process_time()
        do(number)
        return time.process_time() - started

    took = [(seconds(few), seconds(many)) for _ in range(turns)]
    return min(dear for _, dear in took) / min(cheap for cheap, _ in took)
