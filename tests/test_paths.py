"""Paths in flags and fields, as typed by the user."""

import os

import pytest

from cnnjax import cache, paths
from cnnjax.config import RunConfig, create, from_stored, override
from cnnjax.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~nobody-of-this-name/x", "--workdir: ~nobody-of-this-name/x: no home folder is known"),
        ("a\nb", r"--workdir: 'a\nb' has a character that cannot be in a path here"),
        ("a\x00b", "has a character"),
        ("a\udce4b", "has a character"),
        (f"a/{'é' * 128}/b", "is a name of 256 bytes; allowed: at most 255"),
        ("a/" * 3000, "is too long for a path"),
    ],
)
def test_impossible_paths_are_errors_of_one_line(text, message):
    with pytest.raises(UserError) as caught:
        paths.parse("--workdir", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_to_itself_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop: is a link that leads to itself"):
        paths.parse("--compare", str(tmp_path / "loop"))


def test_other_paths_are_unchanged(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/me")
    assert str(paths.parse("--workdir", "~/ä b")) == "/home/of/me/ä b"
    assert str(paths.parse("--workdir", "../x")) == "../x"
    assert cache.root() == paths.parse("CNNJAX_CACHE", os.environ["CNNJAX_CACHE"])


def test_paths_in_a_configuration_are_absolute_and_those_of_a_stored_one_become_so(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    changes = {"data.name": "folder:images", "transfer.init_from": "../weights"}
    config = override(RunConfig(), changes)
    assert config.data.name == f"folder:{tmp_path}/images"
    assert config.transfer.init_from == str(tmp_path.parent / "weights")
    values = config.model_dump(mode="json")
    stored = {
        **values,
        "data": {**values["data"], "name": "folder:images"},
        "transfer": {**values["transfer"], "init_from": "../weights"},
    }
    assert from_stored(stored) == values
    monkeypatch.chdir("/")
    assert create(values) == config
    assert from_stored(values) == values
    assert override(RunConfig(), {"data.name": "imagenet2012:5.1.0"}).data.name.endswith(":5.1.0")
    with pytest.raises(UserError, match=r"data.name: .* is a name of 300 bytes"):
        override(RunConfig(), {"data.name": "x" * 300})
