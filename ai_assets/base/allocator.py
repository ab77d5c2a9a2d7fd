"""How much freed memory the C library keeps for threads that may want it again."""

import contextlib
import ctypes
import functools
import sys

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
ARENAS = 2


@functools.cache
def share_arenas() -> None:
    """Have threads share a few arenas of glibc's, best called before there are many.

    Each of LanceDB's threads has one to itself otherwise, and what it frees there stays: 400 MB once 200,000 passages
    are indexed. Where the C library has no such option, nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """What is free goes to the system, between two parts of a run that need much; if the C library can do that."""
    if (pyarrow := sys.modules.get("pyarrow")) is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
