"""Claims about what LanceDB prints: errors, and what a user has asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

INDEXED = """
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from ai_assets.storage.index_place import FolderPlace
from ai_assets.storage.index_table import connect

vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(1).random(300 * 16).astype("f4")), 16)
table = connect(FolderPlace(Path(sys.argv[1]))).create_table("few", pa.table({"vector": vectors}))
from lancedb.index import IvfPq

table.create_index("vector", config=IvfPq(distance_type="cosine", num_partitions=64, num_sub_vectors=4))
print(table.count_rows())
"""


@pytest.mark.parametrize(("wanted", "warns"), [({}, False), ({"LANCEDB_LOG": "warn"}, True)])
def test_few_vectors_for_many_cells_are_no_warning_unless_a_user_wants_it(
    tmp_path: Path, wanted: dict[str, str], warns: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LANCEDB_LOG"} | wanted
    done = subprocess.run(
        [sys.executable, "-c", INDEXED, str(tmp_path)], capture_output=True, text=True, env=environment, check=True,
        timeout=300,
    )  # fmt: skip
    assert done.stdout == "300\n"
    assert ("WARN" in done.stderr) is warns, done.stderr
