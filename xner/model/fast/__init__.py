"""Accelerations that compute what PyTorch and transformers do; ``model.accelerate=false`` turns all of them off.

- ``layers``: attention, dropout, and the last layer for the scored pieces only, on a CPU.
- ``products``: matrix products by the fastest library, on a CPU.
- ``optimizer.clip_in_step``: gradient clipping within a fused optimizer's step.
- memory that is kept between steps, below.
"""

import ctypes
import sys
from functools import cache

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MMAP_MAX = 65536
"""glibc's default maximum number of blocks outside the heap."""


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def hold_freed_memory() -> None:
    """Keep freed memory for the next request, until ``release_freed_memory``.

    glibc returns each large block to the system when it is freed. The gradients of XLM-R base are 400 MB of such
    blocks, and fetching their pages again costs 4 to 6 % of a training step. Without glibc, this does nothing.
    """
    if library := _glibc():
        # Blocks outside the heap are always returned; glibc limits their size but not their number.
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory() -> None:
    """Return free memory to the system."""
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        library.malloc_trim(0)
