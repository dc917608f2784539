"""Where compiled programs are kept."""

import os
import subprocess
import sys

import pytest

from common import ROOT

CODE = """
from cnnjax import cache
cache.keep_compilations()
import os; print(os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""


def place(**environment):
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_compiled_programs_are_kept_in_the_cache_by_processor(tmp_path):
    found = place(CNNJAX_CACHE=str(tmp_path))
    assert found.startswith(f"{tmp_path}/xla/")
    assert os.path.isdir(found)


@pytest.mark.parametrize("own", ["/somewhere", ""])
def test_the_users_own_place_stays(tmp_path, own):
    assert place(CNNJAX_CACHE=str(tmp_path), JAX_COMPILATION_CACHE_DIR=own) == own


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert place(CNNJAX_CACHE=str(tmp_path / "file")) == "None"
