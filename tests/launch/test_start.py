"""How a program starts: what it imports, and from where."""

import os
import subprocess
import sys

from common import ROOT

BESIDE = """
from cnnjax.ablation.experiment import Experiment
from beside import ARMS

EXPERIMENT = Experiment(name="mine", question="?", arms=ARMS)
"""


def test_files_of_the_current_folder_are_not_imported_but_those_beside_an_experiment_are(tmp_path):
    current, other = tmp_path / "current", tmp_path / "other"
    current.mkdir()
    other.mkdir()
    for name in ("html", "json", "absl", "pydantic", "experiments"):
        (current / f"{name}.py").write_text("raise SystemExit('of the current folder')")
    (other / "mine.py").write_text(BESIDE)
    (other / "beside.py").write_text("ARMS = {'one': {}, 'two': {'model.activation': 'tanh'}}")
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", "--experiment=../other/mine.py", "--workdir=w"],
        cwd=current,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "error: --arm: is missing; the arms are one, two.\n"
    assert done.returncode == 2
