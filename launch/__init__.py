"""The programs. One that is started as `python -m launch.NAME` imports nothing from the current
folder, as with `python -P`: a file `html.py` there would be run in place of the library's."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def _leave_out_current_folder() -> None:
    """Takes the current folder off the path. The folder that this package is in is put on it where
    the other packages would not be found, or would be those of another checkout."""
    sys.path.pop(0)
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.find_spec("cnnjax")
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != root:
        places = enumerate(sys.path)
        other = (place for place, entry in places if PathFinder.find_spec("cnnjax", [entry]))
        sys.path.insert(next(other, len(sys.path)), str(root))


if sys.argv[0] == "-m" and not sys.flags.safe_path:  # python is about to run a module of this one
    _leave_out_current_folder()
