"""The memory that this process holds, and the most it has held."""

import sys

import psutil  # type: ignore[import-untyped]  # psutil's


def most_memory_held() -> int:
    """The most bytes that this process has held at once so far; 0 where the system does not tell, as on Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    kibibytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kibibytes


def memory_held() -> int:
    """The bytes that this process holds now."""
    return int(psutil.Process().memory_info().rss)
