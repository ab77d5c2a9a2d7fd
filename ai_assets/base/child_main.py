"""Run a module, and end when the process that started it does: `python attached.py <parent pid> <module> [args]`.

A script, not imported: the child may live in a project that cannot import this package. On Linux the kernel keeps the
promise (PR_SET_PDEATHSIG, which survives until the child forks); elsewhere only `ai_assets/base/orphan_reaper.py` does.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("The process that started this one has already ended.")
    sys.path[0] = str(os.getcwd())  # noqa: PTH109  what `python -m` does
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
