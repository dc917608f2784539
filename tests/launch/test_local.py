"""What stops a sweep."""

import errno

import pytest

from cnnjax.errors import UserError
from launch import local

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
        local._stop_without_room(error, tmp_path)
    assert "RESOURCE" not in str(told.value)


def test_any_other_fault_is_the_runs_own(tmp_path):
    local._stop_without_room(ValueError("broken"), tmp_path)
    local._stop_without_room(OSError(errno.ENOENT, "No such file"), tmp_path)
    assert not list(tmp_path.iterdir())
