"""What stops a sweep."""

import errno

import pytest

from cnnjax import files
from cnnjax.ablation import study
from cnnjax.errors import UserError
from common import program
from launch import request, work

TENSORSTORE = 'RESOURCE_EXHAUSTED: Error writing "params/0": No space left on device [os_error_code'


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(TENSORSTORE), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    ],
)
def test_a_disk_that_takes_no_more_stops_the_sweep_in_one_line(tmp_path, error, reason):
    with pytest.raises(UserError, match=rf"cannot be written \(.*{reason}\); make room") as told:
        work.stop_without_room(error, tmp_path)
    assert "RESOURCE" not in str(told.value)


def test_any_other_fault_is_the_runs_own(tmp_path):
    work.stop_without_room(ValueError("broken"), tmp_path)
    work.stop_without_room(OSError(errno.ENOENT, "No such file"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_sweep_in_a_workdir_is_refused(tmp_path):
    with files.lock(tmp_path / ".sweep.lock", wait=False):
        done = program("launch.sweep", "--experiment=quickstart", f"--workdir={tmp_path}", check=2)
    assert f"another sweep is at work in {tmp_path}" in done.stderr
    assert not (tmp_path / "study.json").exists()


def test_where_the_time_is_short_seeds_come_first_and_no_run_is_started_late(tmp_path):
    class Request:
        max_minutes, replicates = 1e-9, 1
        runs = study.runs(tmp_path, ["a", "b"], [0, 1])

    pending = request.Request.pending.fget(Request)
    assert [(run.arm, run.seed) for run in pending] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert work.work(None, Request, pending, quiet=True) == 0
    assert not list(tmp_path.iterdir())
