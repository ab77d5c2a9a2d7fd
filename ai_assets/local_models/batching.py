"""Batches of texts for a model here: those of one length together, and half as much when memory runs out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ai_assets.base.plural import plural

GPU_TOKENS = 16_384
CPU_TOKENS = 2_048
"""Of a batch. What is computed is to stay in the caches of a processor: MiniLM's shape took 3.3 s of it for 160 texts
with 1,024, 3.5 with 2,048, 4.0 with 4,096 and 6.9 with 16,384; bare torch took 3.6 with 16 texts at a time."""


class OutOfMemory(Exception):
    """A batch did not fit into the memory of the device."""


class TextTooLarge(Exception):
    """A single text does not fit."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        super().__init__(f"a text of {plural(tokens, 'token')} does not fit into the memory of the device, even alone")


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How much goes into one batch."""

    tokens: int = GPU_TOKENS
    """Padding included."""
    texts: int = 1_024
    step: int = 8
    """Texts are padded to a multiple of this: matrix units of GPUs want it."""
    per_call: int = 4_096
    """What it takes to ask the model once, whatever for, in tokens: so much padding is cheaper than another batch."""

    @classmethod
    def of(cls, device: str) -> BatchLimits:
        """Where nothing is declared."""
        return cls(tokens=CPU_TOKENS, step=1, per_call=128) if device == "cpu" else cls()

    def padded(self, length: int) -> int:
        return -(-max(length, 1) // self.step) * self.step

    def halved(self, failed_tokens: int) -> BatchLimits:
        """After a batch of so many tokens did not fit."""
        return replace(self, tokens=max(1, min(self.tokens, failed_tokens) // 2))


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Places in order of length. What does not fit is found out by the first batch and not by the last."""
    return sorted(range(len(lengths)), key=lambda place: -lengths[place])


def run_in_batches(
    lengths: Sequence[int],
    limits: BatchLimits,
    compute: Callable[[Sequence[int]], None],
    *,
    release: Callable[[], None] = lambda: None,
) -> BatchLimits:
    """Call `compute` with the places of each batch, and return the limits that fitted in the end.

    A batch for which `compute` raises OutOfMemory is cut in half and computed again, after `release` has given back
    what the failed one held. What was computed before stays. TextTooLarge where one text alone does not fit.
    """
    order, at = longest_first(lengths), 0
    while at < len(order):
        batch = _next_batch(order, at, lengths, limits)
        try:
            compute(batch)
        except OutOfMemory:
            if len(batch) == 1:
                raise TextTooLarge(lengths[batch[0]]) from None
            limits = limits.halved(limits.padded(lengths[batch[0]]) * len(batch))
            release()
        else:
            at += len(batch)
    return limits


def _next_batch(order: Sequence[int], at: int, lengths: Sequence[int], limits: BatchLimits) -> Sequence[int]:
    """The longest of the rest decides how many there can be; one there always is. It ends before a text that is so
    much shorter that padding it and those after it would take longer than to ask the model once more."""
    width = limits.padded(lengths[order[at]])
    batch = order[at : at + max(1, min(limits.texts, limits.tokens // width))]
    for number, place in enumerate(batch):
        if (width - limits.padded(lengths[place])) * (len(batch) - number) > limits.per_call:
            return batch[:number]
    return batch


def blocks_by_length(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places in blocks of at most so many, the longest texts first, by their characters: before tokens are counted."""
    order = longest_first(sizes)
    for at in range(0, len(order), most):
        yield order[at : at + most]
