"""The cache folder, compiled programs in it, and who may write to it."""

import contextlib
import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax import cache
from cnnjax.errors import UserError
from common import ROOT

CODE = """
from cnnjax import cache
cache.keep_compilations()
import os; print(os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""


def start(**environment):
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def compilation_folder(**environment):
    return start(**environment).stdout.strip()


def test_compiled_programs_are_kept_in_the_cache_by_processor(tmp_path):
    folder = compilation_folder(CNNJAX_CACHE=str(tmp_path))
    assert folder.startswith(f"{tmp_path}/xla/")
    assert os.path.isdir(folder)


@pytest.mark.parametrize("folder", ["/somewhere", ""])
def test_the_folder_in_the_environment_is_used(tmp_path, folder):
    assert (
        compilation_folder(CNNJAX_CACHE=str(tmp_path), JAX_COMPILATION_CACHE_DIR=folder) == folder
    )


def test_without_a_writable_cache_compilations_are_not_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert compilation_folder(CNNJAX_CACHE=str(tmp_path / "file")) == "None"


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_executed_files_are_kept_where_others_cannot_write(shared_cache):
    common, default = shared_cache
    with umask(0):
        assert cache.private("xla/abc") == common / "xla/abc"
    assert (common / "xla/abc").stat().st_mode & 0o777 == 0o755
    for folder in (common / "xla/abc", common / "xla", common):
        folder.chmod(0o757)
        assert cache.private("xla/abc") == default / "xla/abc"
        folder.chmod(0o755)
    default.chmod(0o777)
    common.chmod(0o777)
    with pytest.raises(
        cache.Untrusted, match=f"{common} can be written by others .*; {default} can"
    ):
        cache.private("xla/abc")
    common.chmod(0o1777)
    assert cache.private("xla/abc") == common / "xla/abc", "others cannot rename it"
    (common / "xla/abc").chmod(0o1777)
    with pytest.raises(cache.Untrusted, match="can be written by others"):
        cache.private("xla/abc")
    common.parent.chmod(0o700)
    assert cache.private("xla/abc") == common / "xla/abc", "others cannot enter"


def test_a_group_with_the_user_only_may_write(shared_cache, monkeypatch):
    common, _ = shared_cache
    common.chmod(0o775)
    owner = pwd.getpwuid(os.geteuid()).pw_name
    for name, members, fine in (
        (owner, [], True),
        (owner, [owner], True),
        (owner, [owner, "another"], False),
        ("laboratory", [], False),
    ):
        group = grp.struct_group((name, "x", 1, members))
        monkeypatch.setattr(grp, "getgrgid", lambda gid, group=group: group)
        assert (cache.writable_by_others(common) is None) == fine


def test_files_of_another_user_are_not_executed(shared_cache, monkeypatch):
    common, _ = shared_cache
    uid = common.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    if uid == 0:
        assert cache.writable_by_others(common) is None, "root can write anywhere"
        os.chown(common, 12345, -1)
    assert cache.writable_by_others(common) == f"{common} belongs to another user"


def test_compiled_programs_of_others_are_not_read(shared_cache):
    common, default = shared_cache
    common.chmod(0o777)
    default.mkdir()
    default.chmod(0o777)
    environment = {"CNNJAX_CACHE": str(common), "XDG_CACHE_HOME": str(default.parent)}
    done = start(**environment)
    assert done.stdout == "None\n"
    assert done.stderr.count("\n") == 1
    assert f"note: compiled programs are not kept: {common} can be written by" in done.stderr
    default.chmod(0o755)
    assert compilation_folder(**environment).startswith(f"{default}/xla/")


def test_other_folders_follow_the_umask(shared_cache):
    with umask(0o002):
        folder = cache.folder("data/kept", lambda folder: (folder / "x").write_text(""))
    assert folder.stat().st_mode & 0o777 == 0o775
    assert (folder / "x").stat().st_mode & 0o777 == 0o664


def test_a_home_that_does_not_exist_is_one_line(monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", "~no-such-user/x")
    with pytest.raises(UserError, match=r"CNNJAX_CACHE: ~no-such-user/x: no home folder is known"):
        cache.root()

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CNNJAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(UserError, match="this user has no home; set CNNJAX_CACHE"):
        cache.root()
