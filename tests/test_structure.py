"""Which packages import which, and that flags are defined in `launch` alone."""

import ast
import subprocess
import sys

import pytest

from common import ROOT

# What each package may import of the others, besides the ground floor (GROUND).
MAY_IMPORT = {
    "cnnjax.nn": set(),
    "cnnjax.models": {"cnnjax.nn"},
    "cnnjax.data": set(),
    "cnnjax.tasks": {"cnnjax.data"},
    "cnnjax.pretrained": {"cnnjax.models"},
    "cnnjax.train": {"cnnjax.tasks", "cnnjax.models", "cnnjax.data", "cnnjax.nn"},
    "cnnjax.analysis": {"cnnjax.train", "cnnjax.tasks", "cnnjax.models", "cnnjax.nn"},
    "cnnjax.ablation": {"cnnjax.train"},
    "cnnjax.report": {"cnnjax.ablation", "cnnjax.analysis", "cnnjax.data"},
    "experiments": {"cnnjax.ablation", "cnnjax.tasks"},
    "launch": {
        "experiments",
        "cnnjax.report",
        "cnnjax.ablation",
        "cnnjax.train",
        "cnnjax.tasks",
        "cnnjax.data",
        "cnnjax.models",
        "cnnjax.nn",
        "cnnjax.analysis",
        "cnnjax.pretrained",
    },
}
GROUND = (
    "cache catalog config errors files fingerprint machine metric paths result schema validation"
)
OPEN_TO_ALL = {f"cnnjax.{module}" for module in GROUND.split()}
FILES = sorted(
    path for folder in ("cnnjax", "experiments", "launch") for path in (ROOT / folder).rglob("*.py")
)


def package_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "cnnjax" else parts[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    package = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imported(path):
        target = package_of(module)
        if module.split(".")[0] not in ("cnnjax", "experiments", "launch") or target == "cnnjax":
            continue
        allowed = {package} | OPEN_TO_ALL | MAY_IMPORT.get(package, set())
        assert target in allowed, f"{package} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_absl_flags_are_defined_in_launch_alone(path):
    if path.relative_to(ROOT).parts[0] != "launch":
        assert "DEFINE_" not in path.read_text()


def test_no_import_starts_jax():
    """What reads flags has the number of threads and devices to say first."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]
    code = (
        "import importlib, sys\n"
        f"for name in {[name.removesuffix('.__init__') for name in modules]}:\n"
        "    importlib.import_module(name)\n"
        "from jax._src import xla_bridge\n"
        "sys.exit('jax was started' if xla_bridge.backends_are_initialized() else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
