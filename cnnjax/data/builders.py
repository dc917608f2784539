"""A TFDS builder for originals in the formats of MNIST and CIFAR, without TensorFlow.

TFDS's builders of these sets need TensorFlow. This one yields the same images and labels, so the
prepared folder is read as any other. Imported only where it is needed, since this module imports
tensorflow_datasets.
"""

import contextlib
import gzip
import io
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax.data.originals import ORIGINALS
from cnnjax.errors import UserError

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""{split: (images, labels)}"""
DAMAGE_ERRORS = (EOFError, KeyError, OSError, ValueError, tarfile.TarError, zlib.error)


def build(name: str, files: Mapping[str, Path], folder: Path) -> Path:
    """Prepares the data set `name` from its original `files` under `folder`, as array_record.

    Returns the prepared folder, `folder`/name/version. Raises UserError if a file is damaged or a
    label is outside the classes.
    """
    original = ORIGINALS[name]
    try:
        if original.format == "mnist":
            arrays, class_names = read_mnist(files), original.class_names
        else:
            arrays, class_names = read_cifar(next(iter(files.values())))
    except DAMAGE_ERRORS as error:
        where = ", ".join(str(path) for path in files.values())
        raise UserError(f"{where}: damaged, not the original of {name} ({error}).") from error
    for split, (_, labels) in arrays.items():
        if labels.size and labels.max() >= len(class_names):
            raise UserError(
                f"{name}: split {split!r} has the label {labels.max()}; "
                f"allowed: 0 to {len(class_names) - 1}."
            )
    builder = _builder(name, arrays, class_names)(data_dir=folder, file_format="array_record")
    print(f"Preparing {name} from its originals (once) ...", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        # TFDS prints about temporary folders; its bars are for terminals.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
            stack.callback(tfds.enable_progress_bar)
        builder.download_and_prepare()
    return Path(builder.data_path)


def read_mnist(files: Mapping[str, Path]) -> Arrays:
    """The IDX files of LeCun et al. as {split: (images uint8 [N, 28, 28, 1], labels uint8 [N])}."""
    return {
        split: (
            _read_idx(files[f"{part}-images-idx3-ubyte.gz"])[:, :, :, None],
            _read_idx(files[f"{part}-labels-idx1-ubyte.gz"]),
        )
        for split, part in (("train", "train"), ("test", "t10k"))
    }


def read_cifar(archive: Path) -> tuple[Arrays, tuple[str, ...]]:
    """A binary CIFAR archive as {split: (images uint8 [N, 32, 32, 3], labels uint8 [N])} and the
    names of the classes. Of the two labels in CIFAR-100 it takes the second, fine one. Nothing is
    unpacked to disk."""
    with tarfile.open(archive, "r:gz") as tar:
        contents = {
            Path(member.name).name: file.read()
            for member in tar
            if member.isfile() and (file := tar.extractfile(member))
        }
    fine = "fine_label_names.txt" in contents
    class_names = contents["fine_label_names.txt" if fine else "batches.meta.txt"].decode().split()
    batches = sorted(file for file in contents if file.startswith("data_batch_"))
    files_of = {"train": ["train.bin"] if fine else batches}
    files_of["test"] = ["test.bin" if fine else "test_batch.bin"]
    label_bytes = 2 if fine else 1
    splits = {}
    for split, names in files_of.items():
        content = np.frombuffer(b"".join(contents[name] for name in names), np.uint8)
        rows = content.reshape(-1, label_bytes + 3072)
        images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[split] = (images, rows[:, label_bytes - 1])
    return splits, tuple(class_names)


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of uint8: magic 0x800 + rank, the sizes (big-endian uint32), the values."""
    with gzip.open(path) as handle:
        content = handle.read()
    rank = int.from_bytes(content[:4], "big") - 0x800
    if not 1 <= rank <= 3:
        raise ValueError(f"{path.name} is not an IDX file of bytes")
    sizes = np.frombuffer(content, ">u4", rank, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def _png(image: np.ndarray) -> bytes:
    """A PNG of uint8 [H, W, C], lightly compressed for speed."""
    out = io.BytesIO()
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _builder(name: str, arrays: Arrays, class_names: Sequence[str]) -> type[Any]:
    shape = arrays["train"][0].shape[1:]

    class Originals(  # type: ignore[call-arg,misc,unused-ignore]
        tfds.core.GeneratorBasedBuilder, skip_registration=True
    ):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=shape, encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(class_names)),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._generate_examples(*pair) for split, pair in arrays.items()}

        def _generate_examples(
            self, images: np.ndarray, labels: np.ndarray
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield index, {"image": io.BytesIO(_png(image)), "label": int(label)}

    Originals.name = name
    return Originals
