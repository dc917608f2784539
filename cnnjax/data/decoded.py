"""Decoded splits: uint8 arrays, targets and channel sums, kept in the cache folder."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from cnnjax import cache
from cnnjax.data import keys
from cnnjax.data.records import ArrayRecords, Fit, Records, TfdsRecords, stacked
from cnnjax.data.source import Source
from cnnjax.data.spec import Split
from cnnjax.errors import UserError

T = TypeVar("T")
Size = tuple[int, int]
Moments = tuple[tuple[float, ...], tuple[float, ...]]
CHUNK = 500
MOMENT_EXAMPLES = 4096
AS_THEY_ARE = Fit(None)
NATIVE_BUDGET = 2**29  # bytes of originals kept beside the resized images
SMALL = 10_000  # examples in memory that are resized again rather than kept in the cache


@dataclass(frozen=True)
class Decoded:
    """One split: images uint8 [N, H, W, C], targets [N, ...], and sums int64 [N, 2, C], the sum and
    the sum of squares of each image's channels, from which mean and sd of any part follow."""

    images: np.ndarray
    targets: Mapping[str, np.ndarray]
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
        records = ArrayRecords(native.images, native.targets)
    name = _name(source, "-".join([split, *_words(fit)]))

    def write(folder: Path) -> None:
        result = _decode(source, records, split, fit)
        np.save(folder / "images.npy", result.images)
        np.save(folder / "sums.npy", result.sums)
        _save_targets(folder, result.targets)

    def load(folder: Path) -> Decoded:
        images = np.load(folder / "images.npy", mmap_mode="r")
        return Decoded(images, _load_targets(folder, source), np.load(folder / "sums.npy"))

    return _kept(name, write, load)


def targets(source: Source, split: str) -> Mapping[str, np.ndarray]:
    """The targets of a split, [N, ...] each, verified; from the cache where they had to be read."""
    records = source.splits[split]
    if not isinstance(records, TfdsRecords):
        return _verified(records.targets(), source, split)

    def write(folder: Path) -> None:
        _save_targets(folder, records.targets())

    def load(folder: Path) -> Mapping[str, np.ndarray]:
        return _load_targets(folder, source)

    return _verified(_kept(_name(source, f"{split}-labels"), write, load), source, split)


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
        examples = (fit(example) for chunk in chunks for example in train.read(chunk))
        return np.concatenate([channel_sums(image[None]) for image, _ in examples])

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


def _kept(name: str, write: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """What a folder of the cache holds, written anew where it cannot be loaded."""
    with contextlib.suppress(OSError, ValueError):
        return load(cache.folder(name, write))
    return load(cache.folder(name, write, again=True))


def _save_targets(folder: Path, targets: Mapping[str, np.ndarray]) -> None:
    for name, values in targets.items():
        np.save(folder / f"{name}s.npy", values)


def _load_targets(folder: Path, source: Source) -> Mapping[str, np.ndarray]:
    """Those that the source has: a file that is missing is an OSError, and the folder stale."""
    return {name: np.load(folder / f"{name}s.npy") for name in source.targets}


def _words(fit: Fit) -> list[str]:
    """What a name says of how images are brought to size: nothing of what is usual."""
    words = [f"{fit.size[0]}x{fit.size[1]}"] if fit.size else []
    if fit.shorter_side:
        words.append(f"of{fit.shorter_side}")
    return words if fit.interpolation == AS_THEY_ARE.interpolation else [*words, fit.interpolation]


def _decode(source: Source, records: Records, split: str, fit: Fit) -> Decoded:
    height, width = fit.size or source.size or records.read([0])[0][0].shape[:2]
    shape = (len(records), height, width, source.channels)
    images, found = np.empty(shape, np.uint8), []
    quiet = True if len(records) <= SMALL else None  # None: a bar only on a terminal
    title = f"decoding {source.name} {split}"
    with tqdm(total=len(records), desc=title, unit="img", disable=quiet, leave=False) as bar:
        for start in range(0, len(records), CHUNK):
            chunk = range(start, min(start + CHUNK, len(records)))
            sized = [fit(example) for example in records.read(chunk)]
            for image, _ in sized:
                if image.shape != shape[1:]:
                    raise several_sizes(source, image.shape[:2], (height, width))
            images[start : chunk.stop], part = stacked(sized)
            found.append(part)
            bar.update(len(chunk))
    sums = [channel_sums(images[at : at + CHUNK]) for at in range(0, len(images), CHUNK)]
    targets = {name: np.concatenate([part[name] for part in found]) for name in source.targets}
    return Decoded(images, _verified(targets, source, split), np.concatenate(sums))


def several_sizes(source: Source, *sizes: Size) -> UserError:
    """The error for images that differ in size where one size is needed."""
    seen = f" ({' and '.join(f'{height}x{width}' for height, width in sizes)})" if sizes else ""
    return UserError(
        f"data.image_size: None, but the images of {source.name!r} differ in size{seen}; "
        "set it to the height and width they are to be resized to."
    )


def _verified(
    targets: Mapping[str, np.ndarray], source: Source, split: str
) -> Mapping[str, np.ndarray]:
    labels = targets["label"]
    wrong = (labels < 0) | (labels >= len(source.class_names))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UserError(
            f"data.name: {source.name!r}: example {at} of split {split!r} has the label "
            f"{labels[at]}; allowed: 0 to {len(source.class_names) - 1}."
        )
    return targets
