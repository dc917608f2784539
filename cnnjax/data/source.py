"""Where a data set comes from: `digits`, a folder of images, or a prepared TFDS directory.

`data_dir` is read, never written: what is prepared or decoded goes to the user's cache folder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnjax import cache, paths
from cnnjax.data import content, folder, keys, tfds_source
from cnnjax.data.originals import ORIGINALS, fetch
from cnnjax.data.records import ArrayRecords, FolderRecords, Records
from cnnjax.errors import UserError, nearest

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
      size: (height, width) of all images, None if they vary.
      splits: records of `train` and, where the source has them, `validation` and `test`.
      content: a digest of what its files hold, wherever they lie (`cnnjax.data.content`).
      version: of a TFDS set, with its config.
      groups: of each example of `train`, int [N]; those of one group are never divided between
        splits. None where each stands for itself.
      targets: names of what is to be predicted, which its records give; `label` is an int32 in
        [0, number of classes).
    """

    name: str
    key: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, Records]
    content: str
    version: str = ""
    groups: np.ndarray | None = None
    targets: tuple[str, ...] = ("label",)


def find(name: str, data_dir: str | None = None) -> Source:
    """The data set `name`, prepared first if it is one of ours and not prepared yet.

    Args:
      name: `digits`, `folder:PATH`, or a TFDS name such as `mnist` or `imagenet2012:5.1.0`.
      data_dir: looked through as D, D/tfds, D/name, before TFDS_DATA_DIR and ~/tensorflow_datasets.

    Raises:
      UserError: it is not there, is damaged, or the name is unknown; says what to do.
    """
    place = folder_given(data_dir)
    if name == "digits":
        return digits()
    if name.startswith(folder.PREFIX):
        return _of_folder(name)
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
    if name == "digits" or name.startswith(folder.PREFIX):
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
    if not os.path.isdir(place):
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
    splits = {name: ArrayRecords(images[at], {"label": labels[at]}) for name, at in parts.items()}
    digest = content.of_arrays(images, labels)
    return Source("digits", "digits", tuple("0123456789"), 1, (8, 8), splits, digest)


def _of_folder(name: str) -> Source:
    images = folder.read(name)
    paths = [images.path / file for file in images.names]
    splits = {
        split: FolderRecords(paths[part], {"label": images.labels[part]}, images.channels)
        for split, part in images.splits.items()
    }
    return Source(
        name,
        images.key,
        images.class_names,
        images.channels,
        images.size,
        splits,
        images.content,
        groups=None if images.groups is None else images.groups[images.splits["train"]],
    )


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
