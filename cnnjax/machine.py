"""Properties and settings of the machine. No jax."""

import contextlib
import ctypes
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from cnnjax.errors import UserError

_MEM_FRACTIONS = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")


def threads() -> int:
    """The number of threads of XLA on a CPU: PJRT_NPROC, else the cores that it may use."""
    variable = os.environ.get("PJRT_NPROC", "")
    if variable.isdecimal() and len(variable) < 10 and int(variable) > 0:
        return int(variable)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Makes XLA, OpenMP and child processes use so many threads. To be called before jax is
    imported."""
    os.environ["PJRT_NPROC"] = os.environ["OMP_NUM_THREADS"] = str(count)


def instructions() -> str:
    """The instruction sets of the processor, as the system names them; "" if unknown."""
    return _field("/proc/cpuinfo", "flags")


def keep_memory() -> None:
    """Makes glibc keep freed memory for the next step; does nothing elsewhere. To be called before
    any thread is started.

    Each training step allocates its temporary buffer. By default glibc returns a buffer of that
    size to the system each time, and every page of it has to be faulted in and cleared again. All
    threads share one arena, and so the kept memory.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return
    arena_max, mmap_max, trim_threshold = -8, -4, -1  # malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(arena_max, 1)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def share_of_accelerator(processes: int) -> dict[str, str]:
    """The environment variables that give one of so many processes its share of an accelerator's
    memory; by default jax takes three quarters. Raises UserError if the share that the user has set
    is not a number."""
    name = next(filter(os.environ.get, _MEM_FRACTIONS), _MEM_FRACTIONS[0])
    share = os.environ.get(name) or "0.75"
    try:
        return {name: f"{float(share) / processes:.4g}"}
    except ValueError:
        raise UserError(
            f"{name}: {share!r} is not valid; allowed: a number, 0.75 for example."
        ) from None


@contextlib.contextmanager
def without_preallocation() -> Iterator[None]:
    """Stops jax, if it is initialized in this context, from preallocating an accelerator's memory;
    afterwards the setting of the user is restored, for child processes."""
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def free_memory() -> float:
    """The bytes that new processes can use without swapping, from Linux; elsewhere infinity."""
    available = _field("/proc/meminfo", "MemAvailable").removesuffix("kB")
    return 1024 * float(available) if available else math.inf


def boot() -> str:
    """Identifies this boot of the machine on Linux; elsewhere ""."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def processor() -> str:
    """The name of the processor."""
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _field(path: str, name: str) -> str:
    """The first value of that name in a file of lines `name: value`; "" if there is none."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
