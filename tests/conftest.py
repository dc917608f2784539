"""Before all tests: the CPU as backend, caches inside the checkout. One session for all runs."""

import os
import shutil
import signal
import tempfile
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
# Most programs run once or a few times: compile them fast. The older emitters of fused loops take
# half the time of those that are the default.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, which programs respect

import pytest


@pytest.fixture(scope="session")
def session():
    """One session for all tests of a process, so that data and programs are shared."""
    from cnnjax.train.session import Session

    return Session()


@pytest.fixture
def scene_classifier(monkeypatch, tmp_path):
    """Enters a folder with the configuration of the run that `encoders` starts from."""
    import experiments

    config = experiments.load("scenes").experiment.config("resnet8", {}, {})
    folder = tmp_path / "runs/scenes/resnet8/seed-0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shared_cache(monkeypatch):
    """A cache folder that others can enter, and the default one: (path, path)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    from cnnjax import cache

    if cache.writable_by_others(folder):
        pytest.skip(f"others can write to {folder.parent}")
    for name in ("cache", "home"):
        (folder / name).mkdir(mode=0o755)
    monkeypatch.setenv("CNNJAX_CACHE", str(folder / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    yield folder / "cache", folder / "home/cnnjax"
    shutil.rmtree(folder)
