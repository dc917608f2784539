"""Files of weights: what is read, and what is error_of."""

import importlib
import json
import os
import struct
import time

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.errors import UserError
from cnnjax.pretrained import reading


def read(path):
    with reading.opened(path) as found:
        return {name: stored.read() for name, stored in found.items()}


def error_of(path):
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_safetensors_in_any_precision(tmp_path):
    import ml_dtypes

    values = np.array([[1.5, -2.0], [0.25, 3.0]])
    kinds = {"half": np.float16, "brain": ml_dtypes.bfloat16, "double": np.float64}
    arrays = {f"module.{name}": values.astype(kind) for name, kind in kinds.items()}
    save_file(arrays, tmp_path / "model.safetensors")
    found = read(tmp_path / "model.safetensors")
    assert sorted(found) == ["brain", "double", "half"]
    for array in found.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("left", [9, 60, 100])
def test_a_truncated_safetensors_file(left, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.ones(8, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:left])
    assert "cannot be read" in error_of(path)


def test_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.array([1, np.nan], np.float32)}, path)
    assert "weight holds numbers that are not finite in float32" in error_of(path)


def test_numbers_too_large_for_float32(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.array([1e300])}, path)
    assert "weight holds numbers that are not finite in float32" in error_of(path)


def test_files_that_are_not_regular_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    assert "not a regular file" in error_of(tmp_path / "pipe.safetensors")
    assert "is a link to a file that does not exist" in error_of(tmp_path / "gone.h5")


def header(path, entries):
    """A safetensors file with some entries in its header, each of a number of four bytes."""
    content = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(4))
    return path


def test_hostile_headers_of_safetensors(tmp_path):
    path, one = tmp_path / "model.safetensors", {"dtype": "F32", "shape": [1]}
    offsets = {"data_offsets": [0, 4]}
    huge = {"dtype": "F32", "shape": [10**18, 10**18], **offsets}
    for entries in (b'{"a":' * 50_000, {"a": huge}, {"a": one}, {"a": 1}, [1]):
        error_of(header(path, entries))
    path.write_bytes(struct.pack("<Q", 2**63) + b"{" + bytes(100))
    assert "header too large" in error_of(path)
    assert r"'\x1b[31m\n' is not valid as the name of an array" in error_of(
        header(path, {"\x1b[31m\n": one | offsets})
    )


def test_too_many_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_ARRAYS", 3)
    save_file({f"{name}": np.ones(1, np.float32) for name in range(4)}, tmp_path / "x.safetensors")
    assert "has more than 3 arrays" in error_of(tmp_path / "x.safetensors")
    legacy(tmp_path / "old.h5")
    assert "has more than 3 arrays" in error_of(tmp_path / "old.h5")


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "not a file of weights"), (b"hello, no weights", "not a file of weights")],
)
def test_other_files(content, text, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert text in error_of(path)
    assert "no such file" in error_of(tmp_path / "absent.safetensors")
    assert "cannot be read" in error_of(tmp_path)


def legacy(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input", b"fc"]
        file.create_group("input").attrs["weight_names"] = np.array([], "S1")
        group = file.create_group("fc")
        group.attrs["weight_names"] = [b"fc_W_1:0", b"fc_b_1:0"]
        group["fc_W_1:0"], group["fc_b_1:0"] = np.ones((2, 3)), np.zeros(3)


def test_legacy_files_are_read_by_order_not_by_name(tmp_path):
    legacy(tmp_path / "old.h5")
    found = read(tmp_path / "old.h5")
    assert {name: array.shape for name, array in found.items()} == {"fc/0": (2, 3), "fc/1": (3,)}


def test_a_whole_model_in_legacy_form(tmp_path):
    legacy(tmp_path / "old.h5")
    with h5py.File(tmp_path / "model.h5", "w") as file, h5py.File(tmp_path / "old.h5") as old:
        old.copy(old, file, "model_weights")
    assert sorted(read(tmp_path / "model.h5")) == ["fc/0", "fc/1"]


def test_hdf5_that_is_truncated_or_not_of_keras(tmp_path):
    legacy(tmp_path / "old.h5")
    content = (tmp_path / "old.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    assert "truncated" in error_of(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["picture"] = np.ones(3)
    assert "not one of Keras weights" in error_of(tmp_path / "other.h5")


def test_links_in_hdf5_are_errors(tmp_path):
    legacy(tmp_path / "old.h5")
    (tmp_path / "secret.bin").write_bytes(bytes(12))

    def put_in(name, make):
        path = tmp_path / name
        legacy(path)
        with h5py.File(path, "r+") as file:
            del file["fc"]["fc_b_1:0"]
            make(file["fc"])
        return path

    def link(group):
        group["fc_b_1:0"] = h5py.ExternalLink(str(tmp_path / "old.h5"), "/fc/fc_b_1:0")

    def outside(group):
        where = [(str(tmp_path / "secret.bin"), 0, 12)]
        group.create_dataset("fc_b_1:0", (3,), "f4", external=where)

    assert "is a link" in error_of(put_in("link.h5", link))
    assert "not a plain array" in error_of(put_in("outside.h5", outside))


def test_hard_links_are_followed_once(tmp_path):
    """Each of 40 groups is twice in the one before: 2^40 paths, and 41 groups."""
    path = tmp_path / "links.h5"
    legacy(path)
    with h5py.File(path, "r+") as file:
        group = file
        for _ in range(40):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
        group["up"] = file["a"]
    begin = time.monotonic()
    assert sorted(read(path)) == ["fc/0", "fc/1"]
    assert time.monotonic() - begin < 5


def test_hdf5_nested_too_deeply(tmp_path):
    path = tmp_path / "deep.h5"
    legacy(path)
    with h5py.File(path, "r+") as file:
        group = file
        for _ in range(200):
            group = group.create_group("a")
    assert "is nested more than 100 groups deep" in error_of(path)


def test_a_keras_file_without_names_says_what_to_do(tmp_path):
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3))
    assert "save it with a current Keras" in error_of(tmp_path / "old.weights.h5")


def test_torch_files_hold_tensors_only(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra bench)")
    path, proof = tmp_path / "evil.pth", tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(proof), "w"))

    torch.save({"weight": Evil()}, path)
    assert "could run code" in error_of(path)
    assert not proof.exists()
    torch.save({"weight": torch.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read" in error_of(path)
    torch.save([1, 2], path)
    assert "is not a state dict" in error_of(path)


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "unknown"])
def test_torch_that_may_run_code_is_not_used(tmp_path, monkeypatch, version):
    class Torch:
        __version__ = version

        def load(self, *arguments, **options):
            raise AssertionError("loaded")

    monkeypatch.setattr(importlib, "import_module", lambda name: Torch())
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 and so on, for a while")
    text = error_of(tmp_path / "weights.pth")
    assert f"torch {version} may run code from; allowed: 2.6 and newer" in text


@pytest.mark.parametrize("version", ["2.6.0", "2.10.1+cpu"])
def test_torch_that_reads_tensors_only(tmp_path, monkeypatch, version):
    class Torch:
        __version__ = version

        def load(self, path, *, map_location, weights_only):
            assert weights_only is True
            return {}

        def is_tensor(self, value):
            return False

    monkeypatch.setattr(importlib, "import_module", lambda name: Torch())
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 and so on, for a while")
    assert read(tmp_path / "weights.pth") == {}


def test_without_torch_it_says_what_to_install(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 and so on, for a while")
    assert "pip install torch" in error_of(tmp_path / "weights.pth")
