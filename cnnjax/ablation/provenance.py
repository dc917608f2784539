"""The provenance of a study: versions of packages, revision of the code, the experiment's file."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from cnnjax import files

PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def save_source(folder: Path, stamp: str, source: Path) -> dict[str, Any]:
    """Saves the experiment's file and any uncommitted diff; returns the git revision."""
    files.write_bytes(folder / f"{stamp}-{source.name}", source.read_bytes())
    package = Path(__file__).parent
    revision = _git(package, "rev-parse", "HEAD").strip()
    tracked = revision and _git(package, "ls-files", "--error-unmatch", Path(__file__).name)
    if not tracked:
        return {"revision": None, "dirty": False}
    diff = _git(package, "diff", "HEAD")
    if diff:
        files.write_bytes(folder / f"{stamp}-uncommitted.diff", diff.encode())
    return {"revision": revision, "dirty": bool(diff)}


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout if result.returncode == 0 else ""
