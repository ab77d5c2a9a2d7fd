"""What a partition needs in memory: the whole chain, publication and a run over changed rows, in fresh processes."""

from pathlib import Path

import pytest

from bench import partition

SMALL, LARGE = 10_000, 100_000
"""Half of the bench's: 0.57 GiB and, for 80,000, 0.77; what is kept by row beyond 0.8 KB shows, as with 200,000."""


@pytest.mark.slow
def test_ten_times_the_rows_take_at_most_half_as_much_memory_again(tmp_path: Path) -> None:
    small = partition.run(tmp_path / "small", SMALL)
    large = partition.run(tmp_path / "large", LARGE)
    assert partition.ratio(small, large) <= partition.MOST, (small, large)
