"""Before all tests: the CPU as backend, caches inside the checkout. One session for all runs."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".pytest_cache" / "cnnjax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("CNNJAX_CACHE", str(CACHE / "data"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PJRT_NPROC", "1")

import pytest


@pytest.fixture(scope="session")
def session():
    """One session for all tests of a process: data loaded once, programs compiled once."""
    from cnnjax.train.session import Session

    return Session()
