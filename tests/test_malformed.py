"""A sample of `tests.malformed`; `python -m tests.malformed --all` tries all."""

import subprocess
import sys

from common import ROOT


def test_no_malformed_input_of_a_sample_ends_in_a_fault():
    words = [sys.executable, "-m", "tests.malformed", "--jobs=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-3]) >= 300
