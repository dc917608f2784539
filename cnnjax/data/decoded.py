"""Decoded splits: uint8 arrays, labels and channel sums, kept in the cache folder."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cnnjax import cache
from cnnjax.data import keys
from cnnjax.data.records import ArrayRecords, Fit, Records
from cnnjax.data.source import Source
from cnnjax.data.spec import Split
from cnnjax.errors import UserError

Size = tuple[int, int]
Moments = tuple[tuple[float, ...], tuple[float, ...]]
CHUNK = 500
MOMENT_EXAMPLES = 4096
AS_THEY_ARE = Fit(None)
NATIVE_BUDGET = 2**29  # bytes of originals kept beside the resized images
SMALL = 10_000  # examples in memory that are resized again rather than kept in the cache


@dataclass(frozen=True)
class Decoded:
    """One split: images uint8 [N, H, W, C], labels int32 [N], and sums int64 [N, 2, C], the sum and
    the sum of squares of each image's channels, from which mean and sd of any part follow."""

    images: np.ndarray
    labels: np.ndarray
    sums: np.ndarray


def decoded(source: Source, split: str, fit: Fit) -> Decoded:
    """The images of a split, brought to one size by `fit`, from the cache where they are there.

    Raises UserError: damaged images, labels outside the classes, images of several sizes where
    `fit` has none, a cache that cannot be written.
    """
    records = source.splits[split]
    if isinstance(records, ArrayRecords) and len(records) <= SMALL:
        return _decode(source, records, split, fit)
    if fit.size == source.size and not fit.shorter_side:
        fit = AS_THEY_ARE
    if fit != AS_THEY_ARE and source.size is not None and _small(source, records):
        native = decoded(source, split, AS_THEY_ARE)
        records = ArrayRecords(native.images, native.labels)
    name = _name(source, "-".join([split, *_words(fit)]))

    def write(folder: Path) -> None:
        result = _decode(source, records, split, fit)
        for field in ("images", "labels", "sums"):
            np.save(folder / f"{field}.npy", getattr(result, field))

    with contextlib.suppress(OSError, ValueError):
        return _load(cache.folder(name, write))
    return _load(cache.folder(name, write, again=True))


def labels(source: Source, split: str) -> np.ndarray:
    """The labels of a split, int32 [N], verified; from the cache where they had to be read."""
    records = source.splits[split]
    if hasattr(records, "all_labels"):
        return _verified(records.labels(), source, split)
    name = _name(source, f"{split}-labels")

    def write(folder: Path) -> None:
        np.save(folder / "labels.npy", records.labels())

    return _verified(np.load(cache.folder(name, write) / "labels.npy"), source, split)


def channel_sums(images: np.ndarray) -> np.ndarray:
    """Sum and sum of squares of each channel of each image: uint8 [N, H, W, C] -> [N, 2, C]."""
    wide = images.reshape(len(images), -1, images.shape[-1]).astype(np.uint32)
    return np.stack([wide.sum(1), (wide * wide).sum(1)], axis=1).astype(np.int64)


def moments(sums: np.ndarray, fit: Fit) -> Moments:
    """Mean and sd of each channel in the 0..1 scale, from `sums` [N, 2, C] over images of the size
    that `fit` gives them. Exact sums of integers: the same on every machine."""
    assert fit.size is not None
    total = sums.sum(axis=0).astype(np.float64)
    count = len(sums) * fit.size[0] * fit.size[1]
    mean = total[0] / count
    variance = np.maximum(total[1] / count - mean**2, 0)
    return tuple((mean / 255).tolist()), tuple((np.sqrt(variance) / 255).tolist())


def streamed_moments(source: Source, train: Split, fit: Fit) -> Moments:
    """Mean and sd over all training images that are to be streamed, or over a fixed draw of 4096 of
    them; computed once and kept in the cache."""
    some = np.sort(keys.permutation(len(train), "moments")[:MOMENT_EXAMPLES])

    def sums() -> np.ndarray:
        chunks = [some[at : at + 100].tolist() for at in range(0, len(some), 100)]
        images = (fit(image)[None] for chunk in chunks for image in train.read(chunk))
        return np.concatenate([channel_sums(image) for image in images])

    def write(folder: Path) -> None:
        np.save(folder / "sums.npy", sums())

    if source.name == "digits":
        return moments(sums(), fit)
    examples = hashlib.sha256(train.ids.astype("<i4").tobytes()).hexdigest()
    key = cache.digest([source.key, fit, examples])
    return moments(np.load(cache.folder(f"moments/{key}", write) / "sums.npy"), fit)


def _small(source: Source, records: Records) -> bool:
    height, width = source.size or (0, 0)
    return len(records) * height * width * source.channels <= NATIVE_BUDGET


def _name(source: Source, part: str) -> str:
    plain = "".join(char if char.isalnum() else "_" for char in source.name)[-40:]
    return f"decoded/{plain}-{source.key}/{part}"


def _load(folder: Path) -> Decoded:
    images = np.load(folder / "images.npy", mmap_mode="r")
    return Decoded(images, np.load(folder / "labels.npy"), np.load(folder / "sums.npy"))


def _words(fit: Fit) -> list[str]:
    """What a name says of how images are brought to size: nothing of what is usual."""
    words = [f"{fit.size[0]}x{fit.size[1]}"] if fit.size else []
    if fit.shorter_side:
        words.append(f"of{fit.shorter_side}")
    return words if fit.interpolation == AS_THEY_ARE.interpolation else [*words, fit.interpolation]


def _decode(source: Source, records: Records, split: str, fit: Fit) -> Decoded:
    height, width = fit.size or source.size or records.read([0])[0][0].shape[:2]
    shape = (len(records), height, width, source.channels)
    images, found = np.empty(shape, np.uint8), np.empty(len(records), np.int32)
    quiet = True if len(records) <= SMALL else None  # None: a bar only on a terminal
    title = f"decoding {source.name} {split}"
    with tqdm(total=len(records), desc=title, unit="img", disable=quiet, leave=False) as bar:
        for start in range(0, len(records), CHUNK):
            chunk = range(start, min(start + CHUNK, len(records)))
            for position, (image, label) in zip(chunk, records.read(chunk), strict=True):
                image, found[position] = fit(image), label
                if image.shape != shape[1:]:
                    raise several_sizes(source, image.shape[:2], (height, width))
                images[position] = image
            bar.update(len(chunk))
    sums = [channel_sums(images[at : at + CHUNK]) for at in range(0, len(images), CHUNK)]
    return Decoded(images, _verified(found, source, split), np.concatenate(sums))


def several_sizes(source: Source, *sizes: Size) -> UserError:
    """The error for images that differ in size where one size is needed."""
    seen = f" ({' and '.join(f'{height}x{width}' for height, width in sizes)})" if sizes else ""
    return UserError(
        f"data.image_size: None, but the images of {source.name!r} differ in size{seen}; "
        "set it to the height and width they are to be resized to."
    )


def _verified(found: np.ndarray, source: Source, split: str) -> np.ndarray:
    wrong = (found < 0) | (found >= len(source.class_names))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UserError(
            f"data.name: {source.name!r}: example {at} of split {split!r} has the label "
            f"{found[at]}; allowed: 0 to {len(source.class_names) - 1}."
        )
    return found.astype(np.int32, copy=False)
