"""A data set ready for training: loaded once per process, ordered anew for each seed."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax import cache, fingerprint
from cnnjax import config as configs
from cnnjax.data import content, decoded, source, split, stream
from cnnjax.data.order import Order
from cnnjax.data.records import Resize, stack_examples, targets_at
from cnnjax.data.spec import DatasetSpec, Source, Split
from cnnjax.data.stream import HostBatch
from cnnjax.errors import UserError, unknown
from cnnjax.fingerprint import Fingerprint

MEMORY_BUDGET = 2 * 2**30


@dataclass(frozen=True)
class LoadedData:
    """Decoded splits and their description, the same for all seeds; `for_seed` orders them.

    `splits["train"]` holds all training examples, before `data.train_examples` is applied; they are
    resized by `resize`; `fingerprint` says what was read (`cnnjax.fingerprint`).
    """

    config: configs.Data
    spec: DatasetSpec
    splits: Mapping[str, Split]
    in_memory: bool
    resize: Resize
    fingerprint: Fingerprint

    def for_seed(self, seed: int, batch_size: int) -> "Dataset":
        """The data of one run.

        Raises UserError if the batch is larger than the training set, `data.mean` has another
        number of channels than the images, or the augmentation is larger than the images.
        """
        means, channels = len(self.config.mean), self.spec.image_shape[2]
        plural = "s" if channels > 1 else ""
        images = f"the images of {self.spec.name!r} have {channels} channel{plural}"
        if means not in (0, channels):
            raise UserError(
                f"data.mean: has {means} numbers, but {images}. To scale by the data's own mean "
                "and sd: --set data.normalize=standardize"
            )
        if self.config.channel_order == "bgr" and channels != 3:
            raise UserError(
                f"data.channel_order: bgr, but {images}. Add --set data.channel_order=rgb"
            )
        self.spec.check(self.config.augmentation)
        train = self.splits["train"]
        subset_seed = seed if self.config.subset == "per_seed" else None
        chosen = split.subset(len(train), self.config.train_examples, subset_seed)
        examples = len(train) if chosen is None else len(chosen)
        if batch_size > examples:
            raise UserError(
                f"training.batch_size: {batch_size} is larger than the {examples} training "
                "examples."
            )
        return Dataset(self, Order(examples, batch_size, seed), chosen)


@dataclass(frozen=True)
class Dataset:
    """The data of one run; a batch is a function of (seed, step).

    Attributes:
      loaded: the decoded splits, which all seeds share.
      order: which training examples each step sees.
      chosen: positions in `loaded.splits["train"]` of the examples used, None for all.
    """

    loaded: LoadedData
    order: Order
    chosen: np.ndarray | None

    @property
    def spec(self) -> DatasetSpec:
        """Shapes, number of classes, counts, mean and sd."""
        return self.loaded.spec

    @property
    def in_memory(self) -> bool:
        """Whether batches are indices into `store()` rather than images."""
        return self.loaded.in_memory

    @functools.cached_property
    def splits(self) -> Mapping[str, Split]:
        """`train` (the subset used, where there is one), `validation`, `test`, where they exist."""
        splits = self.loaded.splits
        if self.chosen is None:
            return splits
        return {**splits, "train": splits["train"].take(self.chosen)}

    @property
    def augmentation(self) -> configs.Augmentation:
        """The augmentation that remains for the device: streaming crops on the host."""
        augmentation = self.loaded.config.augmentation
        if self.in_memory:
            return augmentation
        return augmentation.model_copy(update={"random_resized_crop": 1.0})

    def store(self) -> dict[str, np.ndarray]:
        """The arrays that batches index: {"images": uint8 [N, H, W, C]} and the targets ([N, ...])
        of all examples, one split after another, the same for every seed; {} when streaming."""
        if not self.in_memory:
            return {}
        parts = [{"images": part.images, **part.targets} for part in self.loaded.splits.values()]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def train_batches(self, start_step: int, stop_step: int) -> Iterator[HostBatch]:
        """The host batches of the steps start_step..stop_step - 1, in order.

        In memory {"indices": int32 [B]} into `store()`; streaming {"images": uint8 [B, H, W, C]}
        and the targets ([B, ...]), with the random-resized crops already made. Any step can be the
        first: the batches before it are not made.
        """
        if self.in_memory:
            train = self._store_indices("train")
            return (
                {"indices": train[self.order.indices(step)]}
                for step in range(start_step, stop_step)
            )
        crop = self.loaded.config.augmentation.random_resized_crop
        batch = stream.TrainBatch(self.splits["train"], self.order, self.loaded.resize, crop)
        return stream.batches(batch, start_step, stop_step, self.loaded.config.stream_workers)

    def eval_batches(self, name: str, batch_size: int) -> Iterator[HostBatch]:
        """Every example of a split exactly once, in its own order.

        As `train_batches`, with "valid": float32 [B], 1 for an example and 0 for the padding that
        fills the last batch.

        Raises UserError if there is no such split.
        """
        if name not in self.loaded.splits:
            raise unknown("split", name, self.loaded.splits)
        part = self.splits[name]
        if self.in_memory:
            indices = self._store_indices(name)
            return (
                _pad({"indices": indices[start : start + batch_size]}, batch_size)
                for start in range(0, len(part), batch_size)
            )
        batch = stream.EvalBatch(part, self.loaded.resize, batch_size)
        workers = self.loaded.config.stream_workers
        batches = stream.batches(batch, 0, -(-len(part) // batch_size), workers)
        return (_pad(batch, batch_size) for batch in batches)

    def first(self, split: str, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The first `count` images of a split (all if it has fewer), uint8 [n, H, W, C], and their
        targets, [n, ...] each. Training images come in the run's order and are not augmented: with
        `count` = batch size they are the batch of step 0."""
        if split == "train":
            return self.at(split, self.order.span(0, count))
        return self.at(split, np.arange(len(self.splits[split]))[:count])

    def at(self, split: str, positions: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The images at some positions of a split, uint8 [n, H, W, C], without augmentation, and
        their targets, [n, ...] each."""
        part = self.splits[split]
        if part.images is not None:
            return part.images[positions], targets_at(part.targets, positions)
        return stack_examples(
            [self.loaded.resize(example) for example in part.read(positions.tolist())]
        )

    def _store_indices(self, name: str) -> np.ndarray:
        """The indices in `store()` of the examples of a split, int32 [N]."""
        names = list(self.loaded.splits)
        start = sum(len(self.loaded.splits[before]) for before in names[: names.index(name)])
        if name == "train" and self.chosen is not None:
            return start + self.chosen
        return np.arange(start, start + len(self.loaded.splits[name]), dtype=np.int32)


def load(config: configs.Data, data_dir: str | None = None) -> LoadedData:
    """Finds, decodes (or reads from the cache) and splits a data set; the same for every seed.

    Raises UserError: missing or damaged data, too few examples, images of several sizes without
    `data.image_size`, a cache that cannot be written.
    """
    origin = source.find(config.name, data_dir, config)
    size = (config.image_size, config.image_size) if config.image_size else origin.size
    if size is None:
        raise decoded.several_sizes(origin)
    counts = {name: len(records) for name, records in origin.splits.items()}
    parts = split.parts(counts, config.validation_fraction, config.split_seed, origin.groups)
    split.subset(len(parts["train"][1]), config.train_examples, None)  # raises if there are fewer
    bytes_of_example = size[0] * size[1] * (origin.channels + ("mask" in origin.targets))
    in_memory = config.pipeline == "memory" or (
        config.pipeline == "auto" and counts["train"] * bytes_of_example <= MEMORY_BUDGET
    )
    resize = Resize(size, config.interpolation, config.shorter_side)
    make_splits = _memory_splits if in_memory else _stream_splits
    splits, (mean, sd) = make_splits(origin, parts, resize)
    pixels, present = decoded.mask_pixels(origin, splits["train"], resize)
    spec = DatasetSpec(
        name=config.name,
        image_shape=(*size, origin.channels),
        num_classes=len(origin.class_names),
        class_names=origin.class_names,
        mean=mean,
        sd=sd,
        targets=origin.targets,
        mask_names=origin.mask_names,
        mask_pixels=pixels,
        mask_present=present,
    )
    read = _fingerprint(config, origin, counts, parts)
    return LoadedData(config, spec, splits, in_memory, resize, read)


Parts = Mapping[str, tuple[str, np.ndarray]]
"""{split: (split of the source, positions in it)}, as `split.parts` gives them."""


def _fingerprint(
    config: configs.Data, origin: Source, counts: Mapping[str, int], parts: Parts
) -> Fingerprint:
    fields: dict[str, Any] = {
        "name": origin.name,
        "version": origin.version,
        "class_names": fingerprint.names(origin.class_names),
        "examples": dict(counts),
        "content": origin.content,
        "division": {
            "validation_fraction": config.validation_fraction,
            "split_seed": config.split_seed,
        },
        "splits": {
            name: f"{len(positions)} of {drawn_from}, {content.of_arrays(positions)}"
            for name, (drawn_from, positions) in parts.items()
        },
    }
    if origin.mask_names:
        fields["mask_names"] = fingerprint.names(origin.mask_names)
    if count := len(origin.left_out):
        examples = f"{count} example{'s' if count > 1 else ''}"
        fields["left_out"] = f"{examples}, digest {cache.digest(sorted(origin.left_out))}"
    return fields


def _memory_splits(
    origin: Source, parts: Parts, resize: Resize
) -> tuple[dict[str, Split], decoded.Moments]:
    drawn_from = dict.fromkeys(name for name, _ in parts.values())
    arrays = {name: decoded.load(origin, name, resize) for name in drawn_from}
    splits = {}
    for name, (whole, positions) in parts.items():
        images, targets = arrays[whole].images, targets_at(arrays[whole].targets, positions)
        if len(positions) < len(images):
            images = images[positions]
        splits[name] = Split(positions, targets, images, origin.splits[whole])
    return splits, decoded.moments(arrays["train"].sums[splits["train"].ids], resize)


def _stream_splits(
    origin: Source, parts: Parts, resize: Resize
) -> tuple[dict[str, Split], decoded.Moments]:
    splits = {}
    for name, (whole, positions) in parts.items():
        targets = targets_at(decoded.targets(origin, whole, resize), positions)
        splits[name] = Split(positions, targets, None, origin.splits[whole])
    return splits, decoded.streamed_moments(origin, splits["train"], resize)


def _pad(batch: HostBatch, batch_size: int) -> HostBatch:
    """The batch, filled up to `batch_size` with copies of its last example, and `valid`."""
    count = len(next(iter(batch.values())))
    padding = batch_size - count
    if padding:
        batch = {
            name: np.concatenate([values, np.repeat(values[-1:], padding, axis=0)])
            for name, values in batch.items()
        }
    return {**batch, "valid": (np.arange(batch_size) < count).astype(np.float32)}
