"""What machine this is. No jax."""

import os
import platform
from pathlib import Path


def threads() -> int:
    """The threads that XLA computes with on a CPU: PJRT_NPROC, else the cores it may use."""
    asked = os.environ.get("PJRT_NPROC", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
