import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from cnnjax import files
from cnnjax.errors import MachineError, UserError, nearest, shown, unknown
from common import ROOT


def test_a_failed_write_leaves_the_old_content_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_json(path, {"old": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"result.json: cannot be written: No space left"):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_numbers_that_json_does_not_have_are_errors(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_incomplete_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nxx\n[]\n{"step": 2}\n{"st')
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}]
    assert files.read_lines(tmp_path / "none") == []


def test_a_lock_excludes_other_processes_in_its_context(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cnnjax import files\n"
        "with files.lock(Path(sys.argv[1]), wait=False) as acquired: print(acquired)"
    )

    def try_lock():
        words = [sys.executable, "-c", code, str(tmp_path / "lock")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with files.lock(tmp_path / "lock", wait=False) as acquired:
        assert acquired
        assert try_lock() == "False"
    assert try_lock() == "True"


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    """A file system without locks; returns the reason."""
    reason = os.strerror(request.param)

    def flock(*_):
        raise OSError(request.param, reason)

    monkeypatch.setattr(fcntl, "flock", flock)
    files._print_once.cache_clear()
    return reason


def test_without_locks_a_file_is_used_and_one_line_names_the_mount(tmp_path, no_locks, capsys):
    for _ in range(2):
        with files.lock(tmp_path / "lock", wait=True) as acquired:
            assert acquired
            with files.lock(tmp_path / "lock", wait=False) as again:
                assert not again
    with files.lock(tmp_path / "another", wait=False) as acquired:
        assert acquired
    (line,) = capsys.readouterr().err.splitlines()
    assert f": this file system has no locks ({no_locks}); files that name host and" in line
    assert os.path.ismount(line.partition(":")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "lock"]


HOLD = """
import fcntl, sys, time
from pathlib import Path
from cnnjax import files
def flock(*_):
    raise OSError(38, "Function not implemented")
fcntl.flock = flock
with files.lock(Path(sys.argv[1]), wait=False) as acquired:
    print(acquired, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("no_locks", [errno.ENOSYS], indirect=True)
def test_the_lock_file_of_a_dead_process_is_taken_over(tmp_path, no_locks):
    words = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with files.lock(tmp_path / "lock", wait=False) as acquired:
            assert not acquired, "its process is alive"
        process.kill()
        process.wait()
        assert (tmp_path / "lock.holder").exists()
        with files.lock(tmp_path / "lock", wait=False) as acquired:
            assert acquired
        assert not (tmp_path / "lock.holder").exists()


@pytest.mark.parametrize("no_locks", [errno.ENOLCK], indirect=True)
def test_the_lock_file_of_another_host_stays_and_is_named(tmp_path, no_locks, capsys):
    holder = tmp_path / "lock.holder"
    holder.write_text("123\nanother-host\n55\n")
    with files.lock(tmp_path / "lock", wait=False) as acquired:
        assert not acquired
    message = capsys.readouterr().err
    assert f"'{holder}' could not be acquired. It is held by pid 123 on another-host" in message
    assert "Remove the file if that process has ended." in message
    assert holder.exists()


def test_other_errors_of_locks_are_one_line(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(UserError, match=r"lock: cannot be locked: Input/output error\."),
        files.lock(tmp_path / "lock", wait=False),
    ):
        pass


def test_links_in_a_workdir_are_errors_but_the_workdir_may_be_one(tmp_path):
    home, run = tmp_path / "home", tmp_path / "scratch/relu/seed-0"
    home.mkdir()
    run.mkdir(parents=True)
    workdir = tmp_path / "workdir"
    workdir.symlink_to(tmp_path / "scratch")
    run = workdir / "relu/seed-0"
    (run / "checkpoints/10/state").mkdir(parents=True)
    files.refuse_links(run, below=workdir)
    files.refuse_links(workdir / "none", below=workdir)
    for link in ("relu/seed-0/checkpoints/20", "relu/seed-0/metrics.jsonl", "relu/seed-1"):
        (workdir / link).symlink_to(home)
        with pytest.raises(UserError, match=rf"{link}: is a link to {home}; nothing is written"):
            files.refuse_links((workdir / link) if "seed-1" in link else run, below=workdir)
        (workdir / link).unlink()
    (workdir / "tanh").symlink_to(home)
    with pytest.raises(UserError, match="tanh: is a link"):
        files.refuse_links(workdir / "tanh/seed-0", below=workdir)


def test_a_log_or_a_lock_that_is_a_link_is_not_written(tmp_path):
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / "log").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="log: cannot be written: it is a link"):
        files.open_log(tmp_path / "log")
    with (
        pytest.raises(UserError, match="log: cannot be written: it is a link"),
        files.lock(tmp_path / "log", wait=False),
    ):
        pass
    assert (tmp_path / "mine").read_text() == "mine\n"


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_nearest_names():
    assert nearest("rellu", ["relu", "tanh"]) == "relu"
    assert nearest("zzz", ["relu", "tanh"]) is None
    text = str(unknown("model.activation", "rellu", ["relu", "tanh"]))
    assert text == "model.activation: unknown 'rellu'. Did you mean 'relu'? Known: relu, tanh."


def test_set_aside_uses_a_free_name(tmp_path):
    for ending in ("", "-2", "-3"):
        (tmp_path / "7").mkdir()
        assert files.set_aside(tmp_path / "7") == tmp_path / f"7.unreadable{ending}"
    with pytest.raises(MachineError, match="7: cannot be renamed: No such file"):
        files.set_aside(tmp_path / "7")


def test_errors_of_the_system_are_not_errors_of_the_content(tmp_path):
    """A read of /proc/self/mem from its beginning is an input/output error."""
    (tmp_path / "torn.json").write_text("[1")
    (tmp_path / "refused.json").symlink_to("/proc/self/mem")
    for name in ("torn", "absent"):
        with pytest.raises(UserError) as caught:
            files.read_json(tmp_path / f"{name}.json")
        assert not isinstance(caught.value, MachineError)
    with pytest.raises(MachineError, match=r"cannot be read just now \(Input/output error\)"):
        files.read_json(tmp_path / "refused.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1e999", "too large"),
        ("1" * 5000, "too large"),
        ("[" * 200 + "]" * 200, "nested"),
        ("[" * 100_000, "nested"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested"),
        ('["\\ud800"]', "half a character"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "Infinity is not JSON"),
        ("{", "is not whole JSON"),
        ("\udcff", "not text in UTF-8"),
    ],
)
def test_json_that_cannot_be_used_is_named(tmp_path, text, reason):
    path = tmp_path / "study.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"study\.json: .*{reason}") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_regular_are_errors(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("pipe", "link", "dangling", "."):
        with pytest.raises(UserError, match=r"cannot be read|is a link to a file"):
            files.read_json(tmp_path / name)
    with pytest.raises(UserError, match="not a regular file"):
        files.read_lines(tmp_path / "pipe")
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 1 << 20)
    (tmp_path / "large").write_text('"' + "x" * (1 << 20) + '"')
    with pytest.raises(UserError, match="larger than 1 MiB"):
        files.read_json(tmp_path / "large")


def test_a_device_a_pipe_and_a_folder_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "null", "folder"):
        with pytest.raises(
            UserError, match=rf"{name}: cannot be written: it is not a regular file"
        ):
            files.write_bytes(tmp_path / name, b"x")
    assert (tmp_path / "null").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "null", "pipe"]


def test_long_values_are_shortened_in_messages():
    assert len(str(unknown("--arm", "x" * 10**6, ["relu"]))) < 300
    assert shown(10**5000) == "a number of thousands of digits"
