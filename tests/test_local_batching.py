"""Batches of texts for a model that is loaded here: how much is padded, and what is done where memory runs out."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from ai_assets.local_models.batching import BatchLimits, OutOfMemory, TextTooLarge, blocks_by_length, run_in_batches

RAGGED = [min(400, max(5, round(random.Random(number).lognormvariate(4.0, 0.7)))) for number in range(200)]
"""As passages are: half of them below 60 tokens, few above 250."""


def batches_of(lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """The lengths of each batch."""
    found: list[list[int]] = []
    run_in_batches(lengths, limits, lambda places: found.append([lengths[place] for place in places]))
    return found


def computed(batches: Sequence[Sequence[int]], limits: BatchLimits) -> int:
    """Tokens, padding included."""
    return sum(limits.padded(max(batch)) * len(batch) for batch in batches)


@pytest.mark.parametrize("limits", [BatchLimits.of("cpu"), BatchLimits.of("cuda:0"), BatchLimits(tokens=1)])
def test_each_text_is_computed_once_and_no_batch_is_above_the_limit(limits: BatchLimits) -> None:
    batches = batches_of(RAGGED, limits)
    assert sorted(length for batch in batches for length in batch) == sorted(RAGGED)
    assert all(computed([batch], limits) <= limits.tokens or len(batch) == 1 for batch in batches)


def test_few_ragged_texts_are_hardly_padded_on_a_processor() -> None:
    limits = BatchLimits.of("cpu")
    batches = batches_of(RAGGED, limits)
    assert computed(batches, limits) < 1.1 * sum(RAGGED)
    assert len(batches) < 20, "each asks the model once more"


def test_a_batch_ends_where_padding_the_rest_would_take_longer_than_another_call() -> None:
    limits = BatchLimits(tokens=1_000, step=1, per_call=64)
    assert batches_of([100, 20, 20, 20], limits) == [[100], [20, 20, 20]]
    assert batches_of([100, 95, 95, 95], limits) == [[100, 95, 95, 95]]
    assert batches_of([100, 40], limits) == [[100, 40]], "60 tokens of padding are less than a call"
    assert batches_of([100, 30], limits) == [[100], [30]]


def test_a_gpu_is_asked_in_large_batches() -> None:
    assert len(batches_of([400, *[20] * 200], BatchLimits.of("cuda:0"))) == 2, "far above what a call takes"
    assert len(batches_of([60, *[20] * 100], BatchLimits.of("cuda:0"))) == 1, "4,000 tokens of padding take as long"


def test_what_does_not_fit_is_halved_and_the_rest_is_computed_in_what_fitted() -> None:
    done: list[int] = []

    def compute(places: Sequence[int]) -> None:
        if len(places) > 2:
            raise OutOfMemory
        done.extend(places)

    limits = run_in_batches([10] * 9, BatchLimits(tokens=80, step=1), compute)
    assert sorted(done) == list(range(9))
    assert limits.tokens == 20


def test_a_text_that_does_not_fit_alone_is_said() -> None:
    def compute(places: Sequence[int]) -> None:
        raise OutOfMemory

    with pytest.raises(TextTooLarge, match="a text of 300 tokens does not fit"):
        run_in_batches([300, 20], BatchLimits(tokens=1_000), compute)


def test_blocks_have_texts_of_about_one_length() -> None:
    assert list(blocks_by_length([1, 9, 5, 7, 3], 2)) == [[1, 3], [2, 4], [0]]
