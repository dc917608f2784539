import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cnnjax import cache, data
from cnnjax.data import decoded, originals, source
from cnnjax.data.originals import ORIGINALS
from cnnjax.data.records import TfdsRecords
from cnnjax.errors import UserError
from common import sizes

pytestmark = pytest.mark.xdist_group("data_sources")


def listing(root):
    return sorted((str(path), path.stat().st_mtime_ns) for path in [root, *root.rglob("*")])


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def idx(values):
    header = (0x800 + values.ndim).to_bytes(4, "big")
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(header + sizes + values.tobytes())


def patch_original(monkeypatch, name, files):
    """Makes `files` {name: bytes} the expected originals of the data set `name`."""
    shas = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    expected = {
        file: (url, shas.get(file, sha)) for file, (url, sha) in ORIGINALS[name].files.items()
    }
    table = {**ORIGINALS, name: replace(ORIGINALS[name], files=expected)}
    for module in (originals, source, data.source):
        monkeypatch.setattr(module, "ORIGINALS", table)


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tiny_mnist(count=30, labels=None):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10 if labels is None else labels
    files = {
        "train-images-idx3-ubyte.gz": idx(images),
        "train-labels-idx1-ubyte.gz": idx(labels),
        "t10k-images-idx3-ubyte.gz": idx(images[:10]),
        "t10k-labels-idx1-ubyte.gz": idx(labels[:10]),
    }
    return images, labels, files


def tiny_cifar(classes):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (40, 3, 32, 32), np.uint8)
    labels = (np.arange(40) % classes).astype(np.uint8)
    head = labels[:, None] if classes == 10 else np.stack([labels // 5, labels], 1)
    rows = np.concatenate([head, images.reshape(40, -1)], axis=1)
    names = "\n".join(f"class{label}" for label in range(classes)).encode() + b"\n\n"
    if classes == 10:
        batches = {f"data_batch_{n + 1}.bin": rows[6 * n : 6 * n + 6] for n in range(5)}
        parts = {**batches, "test_batch.bin": rows[30:]}
        members = {"batches.meta.txt": names}
    else:
        parts = {"train.bin": rows[:30], "test.bin": rows[30:]}
        members = {"fine_label_names.txt": names, "coarse_label_names.txt": b"wrong\n"}
    members |= {name: part.tobytes() for name, part in parts.items()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return images.transpose(0, 2, 3, 1), labels, out.getvalue()


def test_real_mnist(shared_datasets, make_config):
    before = listing(shared_datasets / "mnist")
    loaded = data.load(make_config(name="mnist"), str(shared_datasets))
    assert listing(shared_datasets / "mnist") == before
    assert sizes(loaded) == {"train": 54000, "validation": 6000, "test": 10000}
    assert loaded.spec.image_shape == (28, 28, 1)
    np.testing.assert_allclose(loaded.spec.mean, 0.1307, atol=2e-4)
    np.testing.assert_allclose(loaded.spec.sd, 0.3081, atol=2e-4)
    for part, names in (("train", ("train", "validation")), ("t10k", ("test",))):
        with gzip.open(shared_datasets / f"mnist/{part}-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
        with gzip.open(shared_datasets / f"mnist/{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        ids = np.concatenate([loaded.splits[name].ids for name in names])
        assert sorted(ids) == list(range(len(images)))
        for name in names:
            split = loaded.splits[name]
            np.testing.assert_array_equal(split.images, images[split.ids])
            np.testing.assert_array_equal(split.targets["label"], labels[split.ids])


def test_real_mnist_comes_from_the_cache_the_second_time(shared_datasets, make_config, monkeypatch):
    config = make_config(name="mnist")
    first = data.load(config, str(shared_datasets))

    def refuse(*args):
        raise AssertionError("decoded again")

    monkeypatch.setattr(TfdsRecords, "read", refuse)
    monkeypatch.setattr(source, "fetch", refuse)
    again = data.load(config)
    assert again.spec == first.spec
    np.testing.assert_array_equal(again.splits["test"].images, first.splits["test"].images)


def test_real_cifar10_as_prepared_by_tfds(shared_datasets, make_config):
    directory = shared_datasets / "tfds"
    before = listing(directory)
    config = make_config(name="cifar10", pipeline="stream", validation_fraction=0.2)
    loaded = data.load(config, str(shared_datasets))
    assert sizes(loaded) == {"train": 40000, "validation": 10000, "test": 10000}
    assert loaded.spec.class_names[:4] == ("airplane", "automobile", "bird", "cat")
    np.testing.assert_allclose(loaded.spec.mean, [0.4914, 0.4822, 0.4465], atol=5e-3)
    np.testing.assert_allclose(loaded.spec.sd, [0.2470, 0.2435, 0.2616], atol=5e-3)
    labels = np.concatenate(
        [loaded.splits[name].targets["label"] for name in ("train", "validation")]
    )
    assert np.bincount(labels).tolist() == [5000] * 10
    batch = next(loaded.for_seed(0, 64).train_batches(700, 701))
    assert batch["images"].shape == (64, 32, 32, 3)
    assert 90 < batch["images"].mean() < 150
    direct = source.find("cifar10", str(directory / "cifar10" / "3.0.2"))
    assert direct.splits["train"].read([0])[0][1] == {"label": 7}
    assert listing(directory) == before


def test_mnist_format_from_a_manual_folder(tmp_path, empty_cache, make_config, monkeypatch):
    images, labels, files = tiny_mnist()
    patch_original(monkeypatch, "fashion_mnist", files)
    write(tmp_path / "D" / "fashion_mnist", files)
    before = listing(tmp_path / "D")
    loaded = data.load(make_config(name="fashion_mnist"), str(tmp_path / "D"))
    assert listing(tmp_path / "D") == before
    assert loaded.spec.class_names[9] == "Ankle boot"
    assert loaded.fingerprint["version"] == "3.0.2"
    assert loaded.fingerprint["content"].startswith("sha256:")
    assert sizes(loaded) == {"train": 27, "validation": 3, "test": 10}
    train = loaded.splits["train"]
    np.testing.assert_array_equal(train.images[..., 0], images[train.ids])
    np.testing.assert_array_equal(train.targets["label"], labels[train.ids])
    np.testing.assert_array_equal(loaded.splits["test"].images[..., 0], images[:10])
    assert not list(empty_cache.rglob(".*@*")), "no unfinished folder is left"

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "T"))
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "other"))
    write(tmp_path / "T" / "downloads" / "manual", files)
    again = data.load(make_config(name="fashion_mnist", image_size=14))
    assert again.spec.image_shape == (14, 14, 1)
    np.testing.assert_array_equal(again.splits["train"].ids, train.ids)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_format(tmp_path, empty_cache, make_config, monkeypatch, name, classes):
    images, labels, archive = tiny_cifar(classes)
    file = next(iter(ORIGINALS[name].files))
    patch_original(monkeypatch, name, {file: archive})
    write(tmp_path / "D", {file: archive})
    assert source.prepare(name, str(tmp_path / "D")).is_dir()
    assert source.prepare(name) == source.prepare(name, str(tmp_path / "D"))
    loaded = data.load(make_config(name=name), None)
    assert loaded.spec.num_classes == classes
    assert loaded.spec.class_names[-1] == f"class{classes - 1}"
    assert loaded.spec.image_shape == (32, 32, 3)
    for split, start in (("train", 0), ("validation", 0), ("test", 30)):
        part = loaded.splits[split]
        np.testing.assert_array_equal(part.images, images[start + part.ids])
        np.testing.assert_array_equal(part.targets["label"], labels[start + part.ids])


def test_a_wrong_original(tmp_path, empty_cache, make_config):
    write(tmp_path / "mnist", tiny_mnist()[2])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: is not the original .* SHA"):
        data.load(make_config(name="mnist"), str(tmp_path))


def test_a_damaged_original(tmp_path, empty_cache, make_config, monkeypatch):
    files = tiny_mnist()[2]
    files["train-images-idx3-ubyte.gz"] = files["train-images-idx3-ubyte.gz"][:2000]
    patch_original(monkeypatch, "mnist", files)
    write(tmp_path / "mnist", files)
    with pytest.raises(UserError, match="damaged, not the original of mnist"):
        data.load(make_config(name="mnist"), str(tmp_path))


def test_a_label_outside_the_classes(tmp_path, empty_cache, make_config, monkeypatch):
    labels = np.arange(30, dtype=np.uint8) % 10
    labels[4] = 10
    files = tiny_mnist(labels=labels)[2]
    patch_original(monkeypatch, "mnist", files)
    write(tmp_path / "mnist", files)
    with pytest.raises(UserError, match=r"split 'train' has the label 10; allowed: 0 to 9"):
        data.load(make_config(name="mnist"), str(tmp_path))
    records = source.ArrayRecords(np.zeros((3, 8, 8, 1), np.uint8), {"label": np.array([0, -1, 2])})
    wrong = replace(source.digits(), splits={"train": records})
    with pytest.raises(UserError, match="example 1 of split 'train' has the label -1; allowed"):
        decoded.load(wrong, "train", decoded.UNCHANGED)


def test_no_data_and_no_network(empty_cache, make_config):
    with pytest.raises(UserError, match=r"cifar100 was not found .*no network.*--data_dir=D"):
        data.load(make_config(name="cifar100"))


def test_an_unprepared_set_and_an_unknown_one(tmp_path, make_config):
    with pytest.raises(UserError, match=r"'food101' is not prepared in .*\n.*launch\.prepare --d"):
        data.load(make_config(name="food101"), str(tmp_path))
    with pytest.raises(UserError, match=r"Did you mean 'mnist'"):
        data.load(make_config(name="mnsit"))
    with pytest.raises(UserError, match=r"Did you mean 'cifar10'"):  # no name has a hyphen
        data.load(make_config(name="cifar-10"))
    with pytest.raises(UserError, match="'no_such_set' is unknown to TensorFlow Datasets"):
        source.prepare("no_such_set")


def test_preparing_other_sets_needs_tensorflow(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cnnjax\[prepare\]'"):
        source.prepare("food101")


def test_a_data_dir_that_is_not_a_folder(make_config):
    with pytest.raises(UserError, match="--data_dir: '/no/such/folder' is not a folder"):
        data.load(make_config(), "/no/such/folder")


def test_a_prepared_set_in_another_format_or_damaged(tmp_path, make_config):
    directory = tmp_path / "food101" / "2.0.0"
    directory.mkdir(parents=True)
    facts = {"name": "food101", "version": "2.0.0", "splits": []}
    (directory / "dataset_info.json").write_text(json.dumps(facts | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="is prepared in a format that only TensorFlow reads"):
        data.load(make_config(name="food101"), str(tmp_path))
    (directory / "dataset_info.json").write_text(json.dumps(facts | {"fileFormat": "array_record"}))
    with pytest.raises(UserError, match="not a readable TFDS directory"):
        data.load(make_config(name="food101"), str(tmp_path))
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json: is not whole JSON"):
        data.load(make_config(name="food101"), str(tmp_path))


def test_damaged_records_and_versions(tmp_path, empty_cache, make_config, monkeypatch):
    files = tiny_mnist()[2]
    patch_original(monkeypatch, "mnist", files)
    write(tmp_path / "mnist", files)
    directory = source.prepare("mnist", str(tmp_path))
    assert source.find("mnist:3.0.2", str(directory.parents[1])).class_names[9] == "9"
    with pytest.raises(UserError, match=r"'mnist:1\.0\.0' is not prepared"):
        source.find("mnist:1.0.0", str(directory.parents[1]))
    records = directory / "mnist-train.array_record-00000-of-00001"
    records.write_bytes(records.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"split 'train' cannot be read .* prepare the data set"):
        data.load(make_config(name="mnist"), str(directory))


def test_an_unwritable_cache(tmp_path, make_config, monkeypatch, picture_folder):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be written .*; set CNNJAX_CACHE to a folder"):
        data.load(make_config(name=picture_folder))
    assert data.load(make_config()).in_memory, "digits need no cache"


def test_a_full_disk_leaves_no_files(empty_cache, make_config, monkeypatch, picture_folder):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(UserError, match="No space left on device"):
            data.load(make_config(name=picture_folder))
    assert not list(empty_cache.rglob("*.npy"))
    assert data.load(make_config(name=picture_folder)).in_memory


def test_a_damaged_cache_is_written_again(empty_cache, make_config, picture_folder):
    first = data.load(make_config(name=picture_folder)).splits["train"].images.copy()
    for file in empty_cache.rglob("images.npy"):
        file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(
        data.load(make_config(name=picture_folder)).splits["train"].images, first
    )


def test_a_split_whose_labels_are_withheld_is_left_out(empty_cache, tmp_path, monkeypatch):
    files = tiny_mnist()[2]
    patch_original(monkeypatch, "mnist", files)
    write(tmp_path / "mnist", files)
    monkeypatch.setattr(
        TfdsRecords, "first_label", lambda records: -1 if records.split == "test" else 5
    )
    assert list(source.find("mnist", str(tmp_path)).splits) == ["train"]


def test_a_tfrecord_directory_does_not_hide_the_originals(
    empty_cache, tmp_path, make_config, monkeypatch
):
    files = tiny_mnist()[2]
    patch_original(monkeypatch, "mnist", files)
    write(tmp_path / "mnist", files)
    directory = tmp_path / "mnist" / "3.0.1"
    directory.mkdir()
    (directory / "dataset_info.json").write_text('{"name": "mnist", "fileFormat": "tfrecord"}')
    assert sizes(data.load(make_config(name="mnist"), str(tmp_path)))["test"] == 10


def test_folders_left_by_a_killed_process_are_removed(empty_cache):
    directory = empty_cache / "a"
    (directory / ".kept@abc").mkdir(parents=True)
    (directory / ".kept-other@abc").mkdir()
    folder = cache.folder("a/kept", lambda folder: (folder / "x").write_text("1"))
    assert folder == directory / "kept"
    assert sorted(entry.name for entry in directory.iterdir()) == [
        ".kept-other@abc",
        ".kept.lock",
        "kept",
    ]
    assert cache.folder("a/kept", lambda folder: 1 / 0) == folder


def test_one_of_several_threads_writes_a_folder(empty_cache):
    written = []

    def fill(folder):
        written.append(folder)
        time.sleep(0.05)
        (folder / "x").write_text("whole")

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: cache.folder("a/b", fill), range(4)))
    assert len(written) == 1
    assert [(folder / "x").read_text() for folder in folders] == ["whole"] * 4


@pytest.mark.parametrize("pipeline", ["memory", "stream"])
def test_every_target_of_a_source_reaches_the_batches(
    empty_cache, make_config, monkeypatch, pipeline
):
    whole = source.digits()

    def box_of(labels):
        return np.stack([labels.astype(np.float32) / 20] * 4, axis=1)

    splits = {
        name: source.ArrayRecords(
            part.images, {**part.targets, "box": box_of(part.targets["label"])}
        )
        for name, part in whole.splits.items()
    }
    boxed = replace(whole, splits=splits, targets=("label", "box"))
    monkeypatch.setattr(source, "find", lambda *args: boxed)
    monkeypatch.setattr(decoded, "SMALL", 0)  # through the cache
    for _ in range(2):
        run = data.load(make_config(pipeline=pipeline, image_size=6)).for_seed(0, 5)
        batch = next(run.train_batches(3, 4))
        if pipeline == "memory":
            batch = {name: values[batch["indices"]] for name, values in run.store().items()}
        label = run.splits["train"].targets["label"][run.order.indices(3)]
        np.testing.assert_array_equal(batch["label"], label)
        np.testing.assert_array_equal(batch["box"], box_of(label))
        assert (batch["label"].dtype, batch["box"].dtype) == (np.int32, np.float32)
    files = {file.name for file in empty_cache.rglob("*.npy")}
    assert {"labels.npy", "target_box.npy"} <= files or pipeline == "stream"


def test_decoded_images_without_a_target_are_decoded_again(
    empty_cache, picture_folder, make_config
):
    first = data.load(make_config(name=picture_folder))
    (images,) = empty_cache.rglob("images.npy")
    names = {file.name for file in images.parent.iterdir()}
    assert names >= {"images.npy", "labels.npy", "sums.npy"}
    (images.parent / "labels.npy").unlink()
    again = data.load(make_config(name=picture_folder)).splits["train"]
    np.testing.assert_array_equal(again.targets["label"], first.splits["train"].targets["label"])
