"""What a partition needs in memory: the whole chain, publication and a run over changed rows, in fresh processes."""

from pathlib import Path

import pytest

from bench import partition


@pytest.mark.slow
def test_ten_times_the_rows_take_at_most_half_as_much_memory_again(tmp_path: Path) -> None:
    small = partition.run(tmp_path / "small", partition.SMALL)
    large = partition.run(tmp_path / "large", partition.LARGE)
    assert partition.ratio(small, large) <= partition.MOST, (small, large)
