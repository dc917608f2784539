"""Prepared TFDS directories, which are read without TensorFlow and prepared with it."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from cnnjax import cache, files
from cnnjax.data import content
from cnnjax.data.records import Records, TfdsRecords
from cnnjax.data.spec import Source, showable
from cnnjax.errors import UserError, nearest, shown

VERSION = re.compile(r"\d+\.\d+\.\d+")
MAX_CLASSES = 1_000_000
READABLE = ("array_record", "parquet")
FEATURES = "features.json"
TFDS_FEATURE = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")
CLASS_FIELDS = ("type", "pythonClassName", "python_class_name")


def version(name: str, root: Path, readable: bool = True) -> Path | None:
    """The newest prepared version of `name` (`set`, `set/config`, `set:1.2.3`) in `root`, or None.

    `root` may hold set/1.2.3 or be that folder itself. Only formats that can be read without
    TensorFlow count, or if `readable` is false only the others. Raises UserError if a
    dataset_info.json is damaged, or `root` cannot be read.
    """
    try:
        return _version(name, root, readable)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({files.reason(error)}).") from None


def _version(name: str, root: Path, readable: bool) -> Path | None:
    path, _, number = name.partition(":")
    base = root / path
    if (root / "dataset_info.json").is_file() and _info(root).get("name") == path.split("/")[0]:
        matches = number in ("", root.name) and _readable(root) is readable
        return root if matches else None
    if not base.is_dir():
        return None
    versions = [
        entry
        for entry in base.iterdir()
        if VERSION.fullmatch(entry.name)
        and number in ("", entry.name)
        and (entry / "dataset_info.json").is_file()
        and _readable(entry) is readable
    ]
    return max(versions, key=lambda entry: tuple(map(int, entry.name.split("."))), default=None)


def read(name: str, directory: Path) -> Source:
    """The data set in a prepared directory.

    A split whose labels are withheld (-1, as in ImageNet's test) is left out. Raises UserError if
    the directory is damaged or its images do not have one label each.
    """
    import tensorflow_datasets as tfds

    check_files(directory)
    try:
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        image_key, label_key = builder.info.supervised_keys or ("image", "label")
        image, label = features[image_key], features[label_key]
        split_names = set(builder.info.splits)
    except Exception as error:
        raise UserError(
            f"{directory}: not a readable TFDS directory ({files.reason(error)})."
        ) from error
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(f"data.name: {name!r} is not an image-classification set.")
    if len(image.shape) != 3:
        raise UserError(f"{directory}: has images of shape {image.shape}; allowed: [H, W, C].")
    height, width, channels = image.shape
    channels = 1 if channels == 1 else 3
    class_names = _class_names(directory, label)
    prepared = {
        split: TfdsRecords(directory, split, image_key, label_key, channels)
        for split in ("train", "validation", "test")
        if split in split_names
    }
    splits: dict[str, Records] = {
        split: records
        for split, records in prepared.items()
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
    return Source(name, key, class_names, channels, size, splits, digest, version)


def _class_names(directory: Path, label: Any) -> tuple[str, ...]:
    count = label.num_classes or 0
    if not 0 < count <= MAX_CLASSES:
        raise UserError(f"{directory}: has {count} classes; allowed: 1 to {MAX_CLASSES:,}.")
    names = tuple(label.names or map(str, range(count)))
    for name in names:
        if not showable(name):
            raise UserError(f"{directory}: {name[:100]!r} is not valid as the name of a class.")
    return names


def download(name: str, data_dir: Path | None, home: Path) -> Path:
    """Downloads and prepares a TFDS set as array_record in the cache; needs TensorFlow.

    Originals that TFDS cannot download are looked for in `data_dir`, or in `home`/downloads/manual.
    Raises UserError.
    """
    import tensorflow_datasets as tfds

    try:
        tfds.builder_cls(name.split(":")[0].split("/")[0])
    except ValueError:  # an unknown name, or one that is not possible
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


def check_files(directory: Path) -> None:
    """Checks a prepared directory before TFDS reads it: TFDS imports whatever module
    `features.json` names, and waits for a pipe.

    Raises UserError if it holds anything besides files and folders, or features of another module
    than TFDS's own.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise UserError(f"{directory}: cannot be read ({files.reason(error)}).") from None
    for entry in entries:
        if not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry}: is not a regular file.")
    if directory / FEATURES in entries:
        for name in _feature_classes(directory / FEATURES):
            if not TFDS_FEATURE.fullmatch(name):
                raise UserError(
                    f"{directory / FEATURES}: asks for {name[:100]!r}, which would run code; "
                    "allowed: features of TFDS (tensorflow_datasets.core.features)."
                )


def _feature_classes(file: Path) -> list[str]:
    """The names of all Python classes in a features.json, and in the strings of JSON in it, which
    TFDS reads too."""
    pending: list[Any] = [files.read_json(file)]
    names = []
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            names += [value[field] for field in CLASS_FIELDS if isinstance(value.get(field), str)]
            pending += value.values()
        elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            try:
                pending.append(json.loads(value))
            except RecursionError:
                raise UserError(f"{file}: is nested too deeply.") from None
            except ValueError:
                continue  # a string that is not JSON after all
    return names
