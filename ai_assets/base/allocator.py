"""How much freed memory the C library keeps for threads that may want it again."""

import contextlib
import ctypes
import functools

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
