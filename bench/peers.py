"""This package among its rivals, on their own work and by their own runner: `python -m bench.peers FOLDER [PEER ...]`.

FOLDER holds the rivals' programs (`run.py`, `peers.py`); their environments are below `PEERS_HOME`. The runner
alternates all of them, and its tables go to standard output.
"""

import runpy
import sys
from pathlib import Path

BESIDE = ("aiohttp", "openai-async", "dagster-asset-threads", "dbos-sqlite-steps", "prefect-async-server")


def main(folder: Path, names: list[str]) -> None:
    sys.path.insert(0, str(folder))
    import peers  # type: ignore[import-not-found]  # the registry in that folder

    ours = str(Path(__file__).with_name("peer_ours.py"))
    peers.add("ours", ours, py=sys.executable, env={"DAGSTER_DISABLE_TELEMETRY": "1"})
    peers.PEERS["ours"]["cmd"] = [sys.executable, ours]
    sys.argv = [str(folder / "run.py"), *names]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "run.py").is_file():
        raise SystemExit("usage: python -m bench.peers FOLDER [-s A,C,D] [-r 3] [PEER ...]; run.py is in FOLDER")
    main(Path(sys.argv[1]).resolve(), sys.argv[2:] if len(sys.argv) > 2 else ["-s", "A,C,D", "ours", *BESIDE])
