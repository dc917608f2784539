"""Prepared TFDS directories, which are read without TensorFlow and prepared with it."""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import cache, files
from cnnjax.data import content
from cnnjax.data.records import Features, Records, TfdsRecords
from cnnjax.data.spec import SPLITS, Source, bad_examples, showable
from cnnjax.data.targets import IGNORE, class_of_value
from cnnjax.errors import UserError, nearest, shown

VERSION = re.compile(r"\d+\.\d+\.\d+")
MAX_CLASSES = 1_000_000
READABLE = ("array_record", "parquet")
FEATURES = "features.json"
INFO = "dataset_info.json"
MASK = "segmentation_mask"
BOXES = ("bbox", "head_bbox")
OBJECTS = "objects"
MASK_VALUES: Mapping[str, Mapping[int, str]] = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: "border"}
}
"""The classes of the values in masks, of TFDS sets whose documentation names them."""
TFDS_FEATURE = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")
CLASS_FIELDS = ("type", "pythonClassName", "python_class_name")


def base_name(name: str) -> str:
    """The name of a set (`set`, `set/config`, `set:1.2.3`) without config and version."""
    return name.partition(":")[0].partition("/")[0]


def version(name: str, root: Path, readable: bool = True) -> Path | None:
    """The newest prepared version of `name` in `root`, or None.

    `root` may hold set/1.2.3 or be that folder itself. Only formats that can be read without
    TensorFlow count, or if `readable` is false only the others. Raises UserError if a
    dataset_info.json is damaged, or `root` cannot be read.
    """
    path, _, number = name.partition(":")
    base = root / path

    def matches(folder: Path) -> bool:
        return (
            number in ("", folder.name)
            and (folder / INFO).is_file()
            and (_info(folder).get("fileFormat") in READABLE) is readable
        )

    try:
        if (root / INFO).is_file() and _info(root).get("name") == base_name(name):
            return root if matches(root) else None
        entries = list(base.iterdir()) if base.is_dir() else []
        versions = [each for each in entries if VERSION.fullmatch(each.name) and matches(each)]
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({files.reason(error)}).") from None
    return max(versions, key=lambda entry: tuple(map(int, entry.name.split("."))), default=None)


def read(name: str, directory: Path, skip_bad: bool = False) -> Source:
    """The data set in a prepared directory.

    Its features give the targets: `label` is a class, `mask` is `segmentation_mask`, `box` is
    `bbox` or `head_bbox`. Of a sequence `objects` with `bbox` and `label` the largest object is the
    target: its box and, if the image has no class, its class. A split whose labels are withheld
    (-1, as in ImageNet's test) or that has no objects is left out.

    Args:
      name: as in `data.name`.
      directory: prepared by TFDS.
      skip_bad: leave out examples whose mask or box cannot be used, rather than raise.

    Raises UserError if the directory is damaged, its images have none of these targets, or a mask
    or box cannot be used.
    """
    import tensorflow_datasets as tfds

    check_files(directory)
    try:
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        keys = _features(features, builder.info.supervised_keys)
        split_names = set(builder.info.splits)
    except Exception as error:
        raise UserError(
            f"{directory}: not a readable TFDS directory ({files.reason(error)})."
        ) from error
    if keys is None:
        raise UserError(
            f"data.name: {name!r} is not an image-classification set, and has neither masks "
            f"({MASK}) nor boxes ({', '.join((*BOXES, OBJECTS))})."
        )
    image = features[keys.image]
    if len(image.shape) != 3:
        raise UserError(f"{directory}: has images of shape {image.shape}; allowed: [H, W, C].")
    height, width, channels = image.shape
    channels = 1 if channels == 1 else 3
    class_names: tuple[str, ...] = ()
    if keys.label:
        class_names = _class_names(directory, features[keys.label])
    elif keys.objects:
        class_names = _class_names(directory, features[keys.objects].feature["label"])
    mask_values = MASK_VALUES.get(builder.name)
    mask_classes = None if mask_values is None else class_of_value(mask_values)
    splits = {}
    for split in SPLITS:
        if split in split_names:
            records = TfdsRecords(directory, split, keys, channels, mask_classes)
            if split == "train" or not keys.label or records.first_label() != -1:
                splits[split] = records
    if "train" not in splits:
        raise UserError(f"data.name: {name!r} has no split 'train' in {directory}.")
    entries = sorted(directory.iterdir())
    versions = [(entry.name, *content.version(entry.stat())) for entry in entries]
    key = cache.digest([str(directory.resolve()), versions])
    size = (height, width) if height and width else None
    digest = content.of_files(key, {entry.name: entry for entry in entries if entry.is_file()})
    config = getattr(builder.builder_config, "name", "")
    version = f"{config}:{builder.version}" if config else str(builder.version)
    source = Source(
        name, key, class_names, channels, size, splits, digest, version, targets=keys.targets
    )
    if keys.targets == ("label",):
        return source
    return _checked(source, splits, directory, mask_values, skip_bad)


def _features(features: Any, supervised: Sequence[str] | None) -> Features | None:
    """The features that are read; None if there is no image, or no target."""
    import tensorflow_datasets as tfds

    def key(name: str, kind: type[Any]) -> str | None:
        return name if name in features and isinstance(features[name], kind) else None

    image_key, label_key = supervised or ("image", "label")
    image = key(image_key, tfds.features.Image) or key("image", tfds.features.Image)
    label = key(label_key, tfds.features.ClassLabel) or key("label", tfds.features.ClassLabel)
    mask = key(MASK, tfds.features.Image)
    if mask and features[mask].shape[-1] != 1:
        mask = None
    box = next(filter(None, (key(name, tfds.features.BBoxFeature) for name in BOXES)), None)
    objects = key(OBJECTS, tfds.features.Sequence)
    parts = features[objects].feature if objects else {}
    is_dict = isinstance(parts, tfds.features.FeaturesDict)
    if box or not is_dict or "bbox" not in parts or not (label or "label" in parts):
        objects = None
    if image is None or not (label or mask or box or objects):
        return None
    return Features(image, label, mask, box, objects)


def _checked(
    source: Source,
    splits: Mapping[str, TfdsRecords],
    directory: Path,
    mask_values: Mapping[int, str] | None,
    skip_bad: bool,
) -> Source:
    """The source with the classes of its masks, and without examples that cannot be used.

    Args:
      source: with masks or boxes.
      splits: its records.
      directory: with the files.
      mask_values: {value of a mask: name of its class}; None for the values that occur.
      skip_bad: leave bad examples out, rather than raise.
    """
    values, problems = _inspect(f"{source.key}-{cache.digest(mask_values)}", splits)
    if mask_values is None:
        mask_values = {value: str(value) for value in values if value != IGNORE}
    mask_classes = class_of_value(mask_values)
    left_out: list[str] = []
    kept: dict[str, Records] = {}
    for split, records in splits.items():
        bad = dict(problems[split])
        if len(bad) == len(records) and split != "train":
            continue
        left_out += bad.values()
        positions = np.setdiff1d(np.arange(len(records)), list(bad)) if bad else None
        kept[split] = dataclasses.replace(records, mask_classes=mask_classes, positions=positions)
    if left_out and not skip_bad:
        raise bad_examples(left_out)
    return dataclasses.replace(
        source,
        splits=kept,
        mask_names=tuple(mask_values.values()) if "mask" in source.targets else (),
        left_out=tuple(text.replace(f"{directory}, ", "", 1) for text in left_out),
    )


Problems = Mapping[str, list[tuple[int, str]]]
"""{split: (index of an example, why it cannot be used)}."""


def _inspect(key: str, splits: Mapping[str, TfdsRecords]) -> tuple[list[int], Problems]:
    """The values that occur in masks, and which examples cannot be used; cached by the `key`."""

    def write(folder: Path) -> None:
        occur = np.zeros(IGNORE + 1, np.bool_)
        problems: dict[str, list[tuple[int, str]]] = {}
        for split, records in splits.items():
            problems[split] = []
            for index, targets in enumerate(records.checked_targets()):
                if isinstance(targets, UserError):
                    problems[split].append((index, str(targets)))
                elif "mask" in targets:
                    occur[np.unique(np.asarray(targets["mask"]))] = True
        inspected = {"values": np.flatnonzero(occur).tolist(), "problems": problems}
        files.write_json(folder / "inspected.json", inspected)

    def load(folder: Path) -> tuple[list[int], Problems]:
        inspected = json.loads((folder / "inspected.json").read_text())
        return inspected["values"], {split: inspected["problems"][split] for split in splits}

    return cache.load(f"inspected/{key}", write, load)


def _class_names(directory: Path, label: Any) -> tuple[str, ...]:
    count = label.num_classes or 0
    if not 0 < count <= MAX_CLASSES:
        raise UserError(f"{directory}: has {count} classes; allowed: 1 to {MAX_CLASSES:,}.")
    names = tuple(label.names or map(str, range(count)))
    for name in names:
        if not showable(name):
            raise UserError(f"{directory}: {name[:100]!r} is not valid as the name of a class.")
    return names


def download(name: str, data_dir: Path | None, home: Path) -> None:
    """Downloads and prepares a TFDS set as array_record in the cache; needs TensorFlow.

    Originals that TFDS cannot download are looked for in `data_dir`, or in `home`/downloads/manual.
    Raises UserError.
    """
    import tensorflow_datasets as tfds

    try:
        tfds.builder_cls(base_name(name))
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


def _info(directory: Path) -> dict[str, str]:
    info = files.read_json(directory / INFO)
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
