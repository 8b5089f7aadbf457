"""Memory that a CPU's training frees and asks for again at every step, held on to meanwhile and given back after it.

glibc returns each large block to the system when it is freed. The gradients of XLM-R base are 400 MB of such blocks;
fetching their pages anew costs 4 to 6 % of a step. Where there is no glibc, nothing happens.
"""

import ctypes
import sys
from functools import cache

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MMAP_MAX = 65536
"""glibc's own number of blocks that lie outside the heap at most."""


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def hold_freed_memory() -> None:
    """Keep blocks for the next request when they are freed, until ``release_freed_memory``."""
    if library := _glibc():
        # Blocks outside the heap are returned one by one; how large they are from is limited, how many there are not.
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory() -> None:
    """Give the system back what is free."""
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        library.malloc_trim(0)
