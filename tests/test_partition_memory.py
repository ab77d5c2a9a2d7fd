"""What partitions and runs need in memory: the whole chain, publication and a run over changed rows."""

from pathlib import Path

import pytest

from bench import partition, run_memory

SMALL, LARGE = 10_000, 100_000
"""Half of the bench's: 0.57 GiB and, for 80,000, 0.77; what is kept by row beyond 0.8 KB shows, as with 200,000."""


@pytest.mark.slow
def test_ten_times_the_rows_take_at_most_half_as_much_memory_again(tmp_path: Path) -> None:
    small = partition.run(tmp_path / "small", SMALL)
    large = partition.run(tmp_path / "large", LARGE)
    assert partition.ratio(small, large) <= partition.MOST, (small, large)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 20])
def test_ten_times_the_documents_take_at_most_half_as_much_memory_again(tmp_path: Path, partitions: int) -> None:
    """Of the largest process of a run by the command, whether one partition has them all or many share them."""
    small = run_memory.run(tmp_path / "small", 400, partitions)
    large = run_memory.run(tmp_path / "large", 4_000, partitions)
    assert run_memory.ratio(small, large) <= run_memory.MOST, (small, large)
