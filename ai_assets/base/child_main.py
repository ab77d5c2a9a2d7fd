"""Run a module, and end when the process that started it does: `python attached.py <parent pid> <module> [args]`.

A script, not imported: the child may live in a project that cannot import this package. On Linux the kernel keeps the
promise (PR_SET_PDEATHSIG, which survives until the child forks); elsewhere only `ai_assets/base/orphan_reaper.py` does.
"""

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("The process that started this one has already ended.")
    sys.argv = sys.argv[2:]
    if os.environ.get("AI_ASSETS_LOG"):
        _log_as_told()
    sys.path[0] = str(os.getcwd())  # noqa: PTH109  what `python -m` does
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _log_as_told() -> None:
    """With ours from where this file is, whatever the project can import."""
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from ai_assets.base.errors import UserError
    from ai_assets.base.structured_log import begin

    try:
        begin()
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
