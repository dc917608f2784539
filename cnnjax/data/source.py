"""Where a data set comes from: embedded, a folder of images, or a prepared TFDS directory.

`data_dir` is read, never written: prepared and decoded data goes to the user's cache folder.
"""

import os
from importlib import metadata
from pathlib import Path

import numpy as np

from cnnjax import cache, catalog, paths
from cnnjax.config import Data, Scenes
from cnnjax.data import content, folder, folder_targets, keys, scenes, tfds_source
from cnnjax.data.originals import ORIGINALS, fetch, tfds_folders
from cnnjax.data.records import ArrayRecords, FolderRecords
from cnnjax.data.spec import Source
from cnnjax.errors import UserError, nearest

DIGITS = "sklearn/datasets/data/digits.csv.gz"
DIGITS_TEST_EXAMPLES = 450
EMBEDDED = ("digits", *catalog.SCENES)
"""The data sets that need no preparation."""


def find(name: str, data_dir: str | None = None, config: Data | None = None) -> Source:
    """The data set `name`, prepared first if it is one that cnnjax can prepare.

    Args:
      name: `digits`, `digit_boxes`, `digit_masks`, `folder:PATH`, or a TFDS name such as `mnist` or
        `imagenet2012:5.1.0`.
      data_dir: looked through as D, D/tfds, D/name, before TFDS_DATA_DIR and ~/tensorflow_datasets.
      config: for the fields `scenes` of `digit_boxes` and `digit_masks`, and `skip_bad`, which
        leaves out examples whose masks or boxes cannot be used rather than raising.

    Raises:
      UserError: it is missing or damaged, or the name is unknown; says what to do.
    """
    root = _check_data_dir(data_dir)
    if name == "digits":
        return digits()
    if name in catalog.SCENES:
        return scenes.source(name, config.scenes if config else Scenes(), digits())
    skip_bad = bool(config and config.skip_bad)
    if name.startswith(folder.PREFIX):
        return _from_folder(name, skip_bad)
    directory = _find_prepared(name, root) or _prepare_originals(name, root)
    return tfds_source.read(name, directory, skip_bad)


def prepare(name: str, data_dir: str | None = None) -> Path | None:
    """Downloads and prepares the data set `name` once; later uses find it.

    Returns the prepared folder; None for embedded sets and `folder:PATH`, which need none.
    Sets of TFDS other than MNIST, Fashion-MNIST and CIFAR need TensorFlow for this
    (pip install 'cnnjax[prepare]'); originals that cannot be downloaded are looked for in
    `data_dir`. Raises UserError.
    """
    root = _check_data_dir(data_dir)
    if name in EMBEDDED or name.startswith(folder.PREFIX):
        find(name, data_dir)
        return None
    directory = _find_prepared(name, root)
    if not directory and tfds_source.base_name(name) not in ORIGINALS:
        tfds_source.download(name, root, tfds_folders(None)[0])
        directory = _find_prepared(name, root)
    return directory or _prepare_originals(name, root)


def _check_data_dir(data_dir: str | None) -> Path | None:
    """`data_dir` as a path. Raises UserError if it is not a folder."""
    if data_dir is None:
        return None
    path = paths.parse("--data_dir", data_dir)
    if not os.path.isdir(path):
        raise UserError(f"--data_dir: {data_dir!r} is not a folder.")
    return path


def _find_prepared(name: str, data_dir: Path | None) -> Path | None:
    """The prepared TFDS directory of `name` (its newest version), or None."""
    return next(filter(None, (tfds_source.version(name, root) for root in _roots(data_dir))), None)


def _prepare_originals(name: str, data_dir: Path | None) -> Path:
    """Prepares MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 in the cache from their originals.

    Raises UserError for any other name.
    """
    if name not in ORIGINALS:
        raise _not_prepared(name, data_dir)

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
    bundled = metadata.distribution("scikit-learn").locate_file(DIGITS)
    table = np.loadtxt(str(bundled), np.int32, delimiter=",")  # importing sklearn takes a second
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1]
    order = keys.permutation(len(images), "digits", "test")
    test, train = np.split(order, [DIGITS_TEST_EXAMPLES])
    parts = {"train": np.sort(train), "test": np.sort(test)}
    splits = {name: ArrayRecords(images[i], {"label": labels[i]}) for name, i in parts.items()}
    digest = content.of_arrays(images, labels)
    return Source("digits", "digits", tuple("0123456789"), 1, (8, 8), splits, digest)


def _from_folder(name: str, skip_bad: bool) -> Source:
    images = folder_targets.read(name, skip_bad)
    hint = "" if images.targets == ("label",) else " (data.skip_bad=true leaves it out.)"
    splits = {
        split: FolderRecords(
            [images.path / file for file in images.names[part]],
            {target: values[part] for target, values in images.arrays.items()},
            images.channels,
            images.masks[part],
            images.mask_classes,
            hint,
        )
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
        groups=images.groups,
        targets=images.targets,
        mask_names=images.mask_names,
        left_out=images.left_out,
    )


def _roots(data_dir: Path | None) -> list[Path]:
    return list(dict.fromkeys([*tfds_folders(data_dir), cache.root() / "tfds"]))


def _not_prepared(name: str, data_dir: Path | None) -> UserError:
    near = nearest(name, [*EMBEDDED, *ORIGINALS])
    roots = _roots(data_dir)
    tfrecords = (tfds_source.version(name, root, readable=False) for root in roots)
    if unreadable := next(filter(None, tfrecords), None):
        return UserError(
            f"{unreadable}: is prepared in a format that only TensorFlow reads (tfrecord). Prepare "
            "it as array_record: pip install 'cnnjax[prepare]', then python -m launch.prepare "
            f"--data={name}"
        )
    hint = f" Did you mean {near!r}?" if near and near != name else ""
    return UserError(
        f"data.name: {name!r} is not prepared in {', '.join(map(str, roots))}.{hint}\n"
        f"Ready without preparation: {', '.join((*EMBEDDED, *ORIGINALS))}, folder:PATH. For "
        "another TFDS set: pip install 'cnnjax[prepare]', then python -m launch.prepare "
        f"--data={name}"
    )
