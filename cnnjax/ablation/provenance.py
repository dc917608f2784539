"""What a study was made with: versions of packages, revision of the code, the file asked for."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from cnnjax import files

PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def keep(folder: Path, stamp: str, source: Path) -> dict[str, Any]:
    """Keeps the experiment's file and any uncommitted diff; returns the git revision."""
    files.write_bytes(folder / f"{stamp}-{source.name}", source.read_bytes())
    here = Path(__file__).parent
    revision = _git(here, "rev-parse", "HEAD").strip()
    inside = revision and _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
    if not inside:
        return {"revision": None, "dirty": False}
    diff = _git(here, "diff", "HEAD")
    if diff:
        files.write_bytes(folder / f"{stamp}-uncommitted.diff", diff.encode())
    return {"revision": revision, "dirty": bool(diff)}


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
