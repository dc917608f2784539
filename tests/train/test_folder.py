"""What a run's folder holds of how it was started."""

import json

import pytest

from cnnjax import config as configs
from cnnjax.errors import UserError
from cnnjax.train import folder
from common import small


def test_a_run_whose_folder_of_images_was_kept_as_typed_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small(data__name="folder:images")
    values = config.model_dump(mode="json")
    values["data"]["name"] = "folder:images"
    (tmp_path / "config.json").write_text(json.dumps(values))
    folder.keep_settings(tmp_path, config, {}, print)
    with pytest.raises(UserError, match="pick another --workdir"):
        folder.keep_settings(tmp_path, small(data__name="folder:others"), {}, print)


def test_a_run_of_a_version_with_other_names_goes_on(tmp_path):
    """`centered` was called deck."""
    config = small(data__normalize="centered")
    values = config.model_dump(mode="json")
    values["data"]["normalize"] = "deck"
    (tmp_path / "config.json").write_text(json.dumps(values))
    folder.keep_settings(tmp_path, config, {}, print)
    assert configs.read(tmp_path / "config.json") == config
    with pytest.raises(UserError, match=r"data\.normalize 'centered' -> 'none'"):
        folder.keep_settings(tmp_path, small(data__normalize="none"), {}, print)
