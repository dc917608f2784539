"""The programs. As with `python -P`, `python -m launch.NAME` imports nothing from the current
folder, where a file `html.py` would be run instead of the standard library's."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def _leave_out_current_folder() -> None:
    """Removes the current folder from `sys.path`. Adds the folder of this package if the other
    packages would not be found, or would be those of another checkout."""
    sys.path.pop(0)
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.find_spec("cnnjax")
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != root:
        entries = enumerate(sys.path)
        others = (index for index, entry in entries if PathFinder.find_spec("cnnjax", [entry]))
        sys.path.insert(next(others, len(sys.path)), str(root))


if (
    sys.argv[0] == "-m" and not sys.flags.safe_path
):  # python is about to run a module of this package
    _leave_out_current_folder()
