"""Memory: how much of it this process holds."""

import os
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """The process's resident memory in bytes."""
    try:
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil  # noqa: PLC0415  only where there is no /proc, and it is not small

        return int(psutil.Process().memory_info().rss)
