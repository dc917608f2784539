"""Decoded splits: uint8 images, targets and channel sums, which are cached."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cnnjax import cache
from cnnjax.data import content, keys
from cnnjax.data.records import (
    ArrayRecords,
    Records,
    Resize,
    TfdsRecords,
    stack_examples,
    stack_targets,
)
from cnnjax.data.spec import Source, Split
from cnnjax.data.targets import count_pixels, verify
from cnnjax.errors import UserError

Size = tuple[int, int]
Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and sd of each channel, in the 0..1 scale."""
CHUNK = 500
MOMENT_EXAMPLES = 4096
UNCHANGED = Resize(None)
MAX_ORIGINAL_BYTES = 2**29  # up to here originals are cached beside the resized images
SMALL = 10_000  # up to so many examples in memory are resized again rather than cached


@dataclass(frozen=True)
class Decoded:
    """One split: images uint8 [N, H, W, C], targets [N, ...], and sums int64 [N, 2, C], the sum and
    the sum of squares of each image's channels, which give the mean and sd of any subset."""

    images: np.ndarray
    targets: Mapping[str, np.ndarray]
    sums: np.ndarray


def load(source: Source, split: str, resize: Resize) -> Decoded:
    """A split with its images resized by `resize`, from the cache if it has been decoded before.

    Raises UserError: damaged images, labels outside the classes, images of several sizes although
    `resize` has none, a cache that cannot be written.
    """
    records = source.splits[split]
    if isinstance(records, ArrayRecords) and len(records) <= SMALL:
        return _decode(source, records, split, resize)
    if resize.size == source.size and not resize.shorter_side:
        resize = UNCHANGED
    if resize != UNCHANGED and source.size is not None:
        height, width = source.size
        if len(records) * height * width * source.channels <= MAX_ORIGINAL_BYTES:
            originals = load(source, split, UNCHANGED)
            records = ArrayRecords(originals.images, originals.targets)

    def write(folder: Path) -> None:
        result = _decode(source, records, split, resize)
        np.save(folder / "images.npy", result.images)
        np.save(folder / "sums.npy", result.sums)
        _save_targets(folder, result.targets)

    def read(folder: Path) -> Decoded:
        images = np.load(folder / "images.npy", mmap_mode="r")
        return Decoded(images, _load_targets(folder, source), np.load(folder / "sums.npy"))

    return cache.load(_cache_name(source, split, *_suffixes(resize)), write, read)


def targets(source: Source, split: str, resize: Resize) -> Mapping[str, np.ndarray]:
    """The verified targets of a split, [N, ...] each, resized as its images are; cached where they
    are not in memory."""
    records = source.splits[split]
    labels_only = source.targets == ("label",)
    if labels_only and not isinstance(records, TfdsRecords):
        return _verify(records.targets, source, split)

    def resized() -> Mapping[str, np.ndarray]:
        if labels_only and isinstance(records, TfdsRecords):
            return {"label": records.labels()}
        starts = range(0, len(records), CHUNK)
        chunks = (records.read(range(i, min(i + CHUNK, len(records)))) for i in starts)
        return stack_targets([resize.targets(*example) for chunk in chunks for example in chunk])

    def write(folder: Path) -> None:
        _save_targets(folder, resized())

    def read(folder: Path) -> Mapping[str, np.ndarray]:
        return _load_targets(folder, source)

    if isinstance(records, ArrayRecords):
        return _verify(resized(), source, split)
    parts = [split, "labels"] if labels_only else [split, "targets", *_suffixes(resize)]
    return _verify(cache.load(_cache_name(source, *parts), write, read), source, split)


def channel_sums(images: np.ndarray) -> np.ndarray:
    """Sum and sum of squares of each channel of each image: uint8 [N, H, W, C] -> [N, 2, C]."""
    wide = images.reshape(len(images), -1, images.shape[-1]).astype(np.uint32)
    return np.stack([wide.sum(1), (wide * wide).sum(1)], axis=1).astype(np.int64)


def moments(sums: np.ndarray, resize: Resize) -> Moments:
    """The moments of images of `resize.size` from their `sums`, int64 [N, 2, C]. Sums of integers
    are exact: the result is the same on every machine."""
    assert resize.size is not None
    total = sums.sum(axis=0).astype(np.float64)
    count = len(sums) * resize.size[0] * resize.size[1]
    mean = total[0] / count
    variance = np.maximum(total[1] / count - mean**2, 0)
    return tuple((mean / 255).tolist()), tuple((np.sqrt(variance) / 255).tolist())


def streamed_moments(source: Source, train: Split, resize: Resize) -> Moments:
    """The moments of a training split that is streamed, over at most 4096 images drawn with a fixed
    key; computed once and cached."""
    chosen = np.sort(keys.permutation(len(train), "moments")[:MOMENT_EXAMPLES])

    def sums() -> np.ndarray:
        chunks = [chosen[i : i + 100].tolist() for i in range(0, len(chosen), 100)]
        examples = (resize(example) for chunk in chunks for example in train.read(chunk))
        return np.concatenate([channel_sums(image[None]) for image, _ in examples])

    def write(folder: Path) -> None:
        np.save(folder / "sums.npy", sums())

    if source.name == "digits":
        return moments(sums(), resize)
    examples = hashlib.sha256(train.ids.astype("<i4").tobytes()).hexdigest()
    key = cache.digest([source.key, resize, examples])
    return moments(np.load(cache.folder(f"moments/{key}", write) / "sums.npy"), resize)


def mask_pixels(
    source: Source, train: Split, resize: Resize
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`count_pixels` of the masks of a training split, () without masks; cached where the split is
    streamed."""
    if "mask" not in source.targets:
        return (), ()

    def counts() -> np.ndarray:
        return np.stack(count_pixels(train.targets["mask"], len(source.mask_names)))

    def write(folder: Path) -> None:
        np.save(folder / "pixels.npy", counts())

    if train.images is not None or isinstance(train.records, ArrayRecords):
        stored = counts()
    else:
        key = cache.digest([source.key, resize, content.of_arrays(train.ids)])
        stored = np.load(cache.folder(f"pixels/{key}", write) / "pixels.npy")
    pixels, present = stored.tolist()
    if not any(pixels):
        raise UserError(f"data.name: {source.name}: no pixel for training has a known class.")
    return tuple(pixels), tuple(present)


def _cache_name(source: Source, *parts: str) -> str:
    plain = "".join(char if char.isalnum() else "_" for char in source.name)[-40:]
    return f"decoded/{plain}-{source.key}/{'-'.join(parts)}"


def _save_targets(folder: Path, targets: Mapping[str, np.ndarray]) -> None:
    for name, values in targets.items():
        np.save(folder / _target_file(name), values)


def _load_targets(folder: Path, source: Source) -> Mapping[str, np.ndarray]:
    """The targets of the source. Raises OSError if a file is missing: the folder is outdated."""
    return {
        name: np.load(folder / _target_file(name), mmap_mode="r" if name == "mask" else None)
        for name in source.targets
    }


def _target_file(name: str) -> str:
    """`labels.npy`, as in caches of earlier versions; `target_box.npy` for a target `box`."""
    return "labels.npy" if name == "label" else f"target_{name}.npy"


def _suffixes(resize: Resize) -> list[str]:
    """How images are resized, for the name of a cache folder; defaults are left out."""
    suffixes = [f"{resize.size[0]}x{resize.size[1]}"] if resize.size else []
    if resize.shorter_side:
        suffixes.append(f"of{resize.shorter_side}")
    if resize.interpolation != UNCHANGED.interpolation:
        suffixes.append(resize.interpolation)
    return suffixes


def _decode(source: Source, records: Records, split: str, resize: Resize) -> Decoded:
    height, width = resize.size or source.size or records.read([0])[0][0].shape[:2]
    shape = (len(records), height, width, source.channels)
    images, sums, chunks = np.empty(shape, np.uint8), [], []
    disable = True if len(records) <= SMALL else None  # None: a bar only on a terminal
    title = f"decoding {source.name} {split}"
    with tqdm(total=len(records), desc=title, unit="img", disable=disable, leave=False) as bar:
        for start in range(0, len(records), CHUNK):
            positions = range(start, min(start + CHUNK, len(records)))
            examples = [resize(example) for example in records.read(positions)]
            for image, _ in examples:
                if image.shape != shape[1:]:
                    raise several_sizes(source, image.shape[:2], (height, width))
            images[start : positions.stop], targets_of_chunk = stack_examples(examples)
            sums.append(channel_sums(images[start : positions.stop]))
            chunks.append(targets_of_chunk)
            bar.update(len(positions))
    targets = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in source.targets}
    return Decoded(images, _verify(targets, source, split), np.concatenate(sums))


def several_sizes(source: Source, *sizes: Size) -> UserError:
    """The error for images of several sizes where one size is needed."""
    examples = f" ({' and '.join(f'{height}x{width}' for height, width in sizes)})" if sizes else ""
    return UserError(
        f"data.image_size: None, but the images of {source.name!r} differ in size{examples}; "
        "set it to the height and width to resize them to."
    )


def _verify(
    targets: Mapping[str, np.ndarray], source: Source, split: str
) -> Mapping[str, np.ndarray]:
    """`targets`. Raises UserError, as `verify` of `cnnjax.data.targets` does."""

    def where(index: int) -> str:
        return f"data.name: {source.name!r}: example {index} of split {split!r}"

    return verify(targets, where, len(source.class_names), len(source.mask_names))
