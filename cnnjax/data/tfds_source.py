"""Prepared TFDS directories, read without TensorFlow; preparing one where TensorFlow is there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from cnnjax import cache, files
from cnnjax.data import content, tfds_files
from cnnjax.data.records import Records, TfdsRecords
from cnnjax.data.spec import showable
from cnnjax.errors import UserError, nearest, shown

VERSION = re.compile(r"\d+\.\d+\.\d+")
MOST_CLASSES = 1_000_000
READABLE = ("array_record", "parquet")
Described = tuple[str, tuple[str, ...], int, tuple[int, int] | None, dict[str, Records], str, str]


def version(name: str, root: Path, readable: bool = True) -> Path | None:
    """The newest prepared version of `name` (`set`, `set/config`, `set:1.2.3`) in `root`, or None.

    `root` may hold root/set/1.2.3 or be the version's own folder. Only what can be read without
    TensorFlow counts, or with `readable` false only what cannot. Raises UserError where a
    dataset_info.json is damaged, or `root` cannot be read.
    """
    try:
        return _version(name, root, readable)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({files.reason(error)}).") from None


def _version(name: str, root: Path, readable: bool) -> Path | None:
    path, _, wanted = name.partition(":")
    base = root / path
    if (root / "dataset_info.json").is_file() and _info(root).get("name") == path.split("/")[0]:
        fits = wanted in ("", root.name) and _readable(root) is readable
        return root if fits else None
    if not base.is_dir():
        return None
    found = [
        entry
        for entry in base.iterdir()
        if VERSION.fullmatch(entry.name) and (entry / "dataset_info.json").is_file()
    ]
    found = [entry for entry in found if not wanted or entry.name == wanted]
    found = [entry for entry in found if _readable(entry) is readable]
    return max(found, key=lambda entry: tuple(map(int, entry.name.split("."))), default=None)


def read(name: str, directory: Path) -> Described:
    """(key, class names, channels, size, splits, content, version) of a prepared directory.

    A split whose labels are withheld (-1, such as ImageNet's test) is left out. Raises UserError if
    the directory is damaged or no set of images with one label each.
    """
    import tensorflow_datasets as tfds

    tfds_files.check(directory)
    try:
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        image_key, label_key = builder.info.supervised_keys or ("image", "label")
        image, label = features[image_key], features[label_key]
        present = set(builder.info.splits)
    except Exception as error:
        raise UserError(
            f"{directory}: not a readable TFDS directory ({files.reason(error)})."
        ) from error
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(f"data.name: {name!r} is not an image-classification set.")
    if len(image.shape) != 3:
        raise UserError(f"{directory}: has images of shape {image.shape}; allowed: three sides.")
    height, width, channels = image.shape
    channels = 1 if channels == 1 else 3
    names = _class_names(directory, label)
    found = {
        split: TfdsRecords(directory, split, image_key, label_key, channels)
        for split in ("train", "validation", "test")
        if split in present
    }
    splits: dict[str, Records] = {
        split: records
        for split, records in found.items()
        if split == "train" or records.first_label() != -1
    }
    if "train" not in splits:
        raise UserError(f"data.name: {name!r} has no split 'train' in {directory}.")
    entries = sorted(directory.iterdir())
    versions = [(entry.name, *content.version(entry.stat())) for entry in entries]
    key = cache.digest([str(directory.resolve()), versions])
    size = (height, width) if height and width else None
    digest = content.of_files(key, {entry.name: entry for entry in entries if entry.is_file()})
    config = getattr(builder.builder_config, "name", "")
    version = f"{config}:{builder.version}" if config else str(builder.version)
    return key, names, channels, size, splits, digest, version


def _class_names(directory: Path, label: Any) -> tuple[str, ...]:
    count = label.num_classes or 0
    if not 0 < count <= MOST_CLASSES:
        raise UserError(f"{directory}: has {count} classes; allowed: 1 to {MOST_CLASSES:,}.")
    names = tuple(label.names or map(str, range(count)))
    for name in names:
        if not showable(name):
            raise UserError(f"{directory}: {name[:100]!r} is no name of a class.")
    return names


def download(name: str, data_dir: Path | None, home: Path) -> Path:
    """Download and prepare a TFDS set as array_record into the cache; needs TensorFlow.

    Originals that TFDS cannot download are looked for in `data_dir`, or in `home`/downloads/manual.
    Raises UserError.
    """
    import tensorflow_datasets as tfds

    try:
        tfds.builder_cls(name.split(":")[0].split("/")[0])
    except ValueError:  # an unknown name, or what cannot be one
        near = nearest(name, tfds.list_builders(with_community_datasets=False))
        hint = f" Did you mean {near!r}?" if near else ""
        raise UserError(
            f"data.name: {shown(name)} is unknown to TensorFlow Datasets {tfds.__version__}.{hint} "
            "All names: tensorflow.org/datasets/catalog."
        ) from None
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"data.name: preparing {name!r} needs TensorFlow, once: pip install 'cnnjax[prepare]', "
            f"then python -m launch.prepare --data={name}"
        )
    manual = data_dir or home / "downloads" / "manual"
    config = tfds.download.DownloadConfig(manual_dir=manual if manual.is_dir() else None)
    try:
        builder = tfds.builder(name, data_dir=cache.root() / "tfds", file_format="array_record")
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(f"data.name: {name!r} could not be prepared: {text}") from error
    return Path(builder.data_path)


def _readable(directory: Path) -> bool:
    return _info(directory).get("fileFormat") in READABLE


def _info(directory: Path) -> dict[str, str]:
    info = files.read_json(directory / "dataset_info.json")
    return info if isinstance(info, dict) else {}
