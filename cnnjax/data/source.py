"""Where a data set comes from: `digits`, a folder of images, or a prepared TFDS directory.

`data_dir` is read, never written: what is prepared or decoded goes to the user's cache folder.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cnnjax import cache, paths
from cnnjax.data import content, keys, tfds_source
from cnnjax.data.originals import ORIGINALS, fetch
from cnnjax.data.records import ArrayRecords, FolderRecords, Records, decode
from cnnjax.errors import UserError, nearest

SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"} | {
    "valid": "validation",
    "test": "test",
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
DIGITS_TEST = 450
HOME = "~/tensorflow_datasets"


@dataclass(frozen=True)
class Source:
    """A data set before it is split, subset or resized.

    Attributes:
      name: as in `data.name`.
      key: stands for the exact content (version, place, files) in names of cache folders.
      class_names: one for each label.
      channels: 1 or 3.
      size: (height, width) of all images, None if they vary or were not looked at.
      splits: records of `train` and, where the source has them, `validation` and `test`.
      content: a digest of what its files hold, wherever they lie (`cnnjax.data.content`).
      version: of a TFDS set, with its config.
    """

    name: str
    key: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, Records]
    content: str
    version: str = ""


def find(name: str, data_dir: str | None = None, sizes: bool = True) -> Source:
    """The data set `name`, prepared first if it is one of ours and not prepared yet.

    Args:
      name: `digits`, `folder:PATH`, or a TFDS name such as `mnist` or `imagenet2012:5.1.0`.
      data_dir: looked through as D, D/tfds, D/name, before TFDS_DATA_DIR and ~/tensorflow_datasets.
      sizes: look at the size of every image of a folder.

    Raises:
      UserError: it is not there, is damaged, or the name is unknown; says what to do.
    """
    place = folder_given(data_dir)
    if name == "digits":
        return digits()
    if name.startswith("folder:"):
        return folder(name, sizes)
    directory = prepared(name, place) or make(name, place)
    return Source(name, *tfds_source.read(name, directory))


def prepare(name: str, data_dir: str | None = None) -> Path | None:
    """Download and prepare the data set `name` once; later uses find it.

    Returns the prepared folder; None for `digits` and `folder:PATH`, which need no preparing.
    MNIST, Fashion-MNIST and CIFAR need nothing else; other sets of TFDS need TensorFlow for this
    (pip install 'cnnjax[prepare]'), and originals that cannot be downloaded are looked for in
    `data_dir`. Raises UserError.
    """
    place = folder_given(data_dir)
    if name == "digits" or name.startswith("folder:"):
        find(name, data_dir)
        return None
    found = prepared(name, place)
    if not found and _base(name) not in ORIGINALS:
        tfds_source.download(name, place, _tfds_home())
        found = prepared(name, place)
    return found or make(name, place)


def folder_given(data_dir: str | None) -> Path | None:
    """`data_dir` as a path. Raises UserError if it is no folder."""
    if data_dir is None:
        return None
    place = paths.typed("--data_dir", data_dir)
    if not place.is_dir():
        raise UserError(f"--data_dir: {data_dir!r} is not a folder.")
    return place


def prepared(name: str, data_dir: Path | None) -> Path | None:
    """The prepared TFDS directory of `name` (its newest version), or None."""
    return next(filter(None, (tfds_source.version(name, root) for root in _roots(data_dir))), None)


def make(name: str, data_dir: Path | None) -> Path:
    """Prepare MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 from the originals into the cache.

    Raises UserError for any other name.
    """
    base = _base(name)
    if base not in ORIGINALS or base != name:
        raise _not_here(name, data_dir)

    def write(target: Path) -> None:
        from cnnjax.data import builders

        builders.build(name, fetch(name, data_dir), target)

    key = cache.digest([sha for _, sha in ORIGINALS[name].files.values()])
    directory = tfds_source.version(name, cache.folder(f"prepared/{name}-{key}", write))
    assert directory is not None, "the builder has just written it"
    return directory


def digits() -> Source:
    """UCI handwritten digits (Alpaydin and Kaynak 1998), as scikit-learn bundles them.

    1797 images of 8x8 with values 0..16, scaled to 0..255; a fixed 450 of them are the test split.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    order = keys.permutation(len(images), "digits", "test")
    parts = {"train": np.sort(order[DIGITS_TEST:]), "test": np.sort(order[:DIGITS_TEST])}
    splits = {name: ArrayRecords(images[at], labels[at]) for name, at in parts.items()}
    digest = content.of_arrays(images, labels)
    return Source("digits", "digits", tuple("0123456789"), 1, (8, 8), splits, digest)


def folder(name: str, sizes: bool = True) -> Source:
    """`folder:PATH`: one sub-folder per class, or train/validation/test folders of such ones.

    Classes are numbered in the order of their names; images are grey if the first one is.
    Raises UserError if there are no images, or a split has a class that train has not.
    """
    path = paths.typed("data.name", name.removeprefix("folder:"))
    if name == "folder:":
        raise UserError("data.name: 'folder:' is not valid; write folder:PATH.")
    if not path.is_dir():
        raise UserError(f"data.name: {name!r}: {str(path)!r} is not a folder.")
    inner = {entry.name: entry for entry in _folders(path)}
    roots = {SPLIT_NAMES[key]: entry for key, entry in inner.items() if key in SPLIT_NAMES}
    if "train" not in roots:
        roots = {"train": path}
    class_names = tuple(entry.name for entry in _folders(roots["train"]))
    files = {split: _images(root, class_names) for split, root in roots.items()}
    if len(class_names) < 2 or not all(files.values()):
        raise UserError(
            f"data.name: {name!r}: needs images in at least two sub-folders, one for each class "
            "(or train, validation, test folders of such ones)."
        )
    filled = {label for _, label in files["train"]}
    for label, class_name in enumerate(class_names):
        if label not in filled:
            raise UserError(f"{roots['train'] / class_name}: holds no images of its class.")
    everything = [file for listed in files.values() for file, _ in listed]
    first = everything[0]
    decode(first, 3, str(first))
    with Image.open(first) as image:
        channels = 1 if image.mode in ("1", "L", "LA", "I", "I;16") else 3
    splits = {
        split: FolderRecords([file for file, _ in listed], [label for _, label in listed], channels)
        for split, listed in files.items()
    }
    facts = [
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in everything
    ]
    key = cache.digest([str(path.resolve()), facts])
    digest = content.of_files(key, {str(file.relative_to(path)): file for file in everything})
    return Source(name, key, class_names, channels, _common_size(everything, sizes), splits, digest)


def _common_size(files: Iterable[Path], look: bool) -> tuple[int, int] | None:
    found: set[tuple[int, int]] = set()
    for file in files if look else ():
        try:
            with Image.open(file) as image:
                found.add((image.height, image.width))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not a readable image ({error}).") from error
        if len(found) > 1:
            return None
    return found.pop() if found else None


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _images(root: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    listed = []
    for entry in _folders(root):
        if entry.name not in class_names:
            raise UserError(
                f"{entry}: is not one of the training classes {', '.join(class_names)}."
            )
        label = class_names.index(entry.name)
        files = sorted(
            file
            for file in entry.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."
        )
        listed += [(file, label) for file in files]
    return listed


def _base(name: str) -> str:
    return name.split(":")[0].split("/")[0]


def _tfds_home() -> Path:
    return paths.typed("TFDS_DATA_DIR", os.environ.get("TFDS_DATA_DIR") or HOME)


def _roots(data_dir: Path | None) -> list[Path]:
    given = [data_dir, data_dir / "tfds"] if data_dir else []
    usual = [_tfds_home(), paths.typed("TFDS_DATA_DIR", HOME), cache.root() / "tfds"]
    return list(dict.fromkeys([*given, *usual]))


def _not_here(name: str, data_dir: Path | None) -> UserError:
    near = nearest(name, ["digits", *ORIGINALS])
    roots = _roots(data_dir)
    other = (tfds_source.version(name, root, readable=False) for root in roots)
    if unreadable := next(filter(None, other), None):
        return UserError(
            f"{unreadable}: is prepared in a format that only TensorFlow reads (tfrecord). Prepare "
            "it as array_record: pip install 'cnnjax[prepare]', then python -m launch.prepare "
            f"--data={name}"
        )
    places = ", ".join(str(root) for root in roots)
    hint = f" Did you mean {near!r}?" if near and near != name else ""
    return UserError(
        f"data.name: {name!r} is not prepared in {places}.{hint}\n"
        f"Known without preparing: digits, {', '.join(ORIGINALS)}, folder:PATH. For another TFDS "
        f"set: pip install 'cnnjax[prepare]', then python -m launch.prepare --data={name}"
    )
