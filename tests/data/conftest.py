import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax import config


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """An empty cache, an empty home and no network for all tests of data."""
    cache_folder = tmp_path_factory.mktemp("cache")
    home = tmp_path_factory.mktemp("home")

    def refuse(url, timeout):
        raise urllib.error.URLError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNJAX_CACHE", str(cache_folder))
        patch.setenv("HOME", str(home))
        patch.delenv("TFDS_DATA_DIR", raising=False)
        patch.setattr(urllib.request, "urlopen", refuse)
        yield cache_folder


@pytest.fixture(scope="session")
def shared_datasets():
    """The folder of real data sets beside the checkout, or a skip."""
    beside = Path(__file__).parents[3] / "shared" / "datasets"
    folder = Path(os.environ.get("CNNJAX_TEST_DATA", beside))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no data sets in {folder}; set CNNJAX_TEST_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def make_config():
    def make(**fields):
        return config.Data.model_validate(fields)

    return make


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory):
    """folder:PATH of 2 classes with 15 RGB images each, all 10x12; pixel [0, 0, 0] is unique."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, name in enumerate(["cat", "dog"]):
        (root / name).mkdir()
        for index in range(15):
            pixels = rng.integers(0, 256, (10, 12, 3), np.uint8)
            pixels[0, 0, 0] = 100 * label + index
            Image.fromarray(pixels).save(root / name / f"{index:02d}.png")
    return f"folder:{root}"
