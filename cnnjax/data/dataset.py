"""A data set made ready for training: loaded once for a process, ordered anew for each seed."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnjax import config as configs
from cnnjax import fingerprint
from cnnjax.data import content, decoded, source, split, stream
from cnnjax.data.order import Order
from cnnjax.data.records import Example, Fit, Records, stacked
from cnnjax.data.spec import DatasetSpec, Split
from cnnjax.errors import UserError, unknown
from cnnjax.fingerprint import Fingerprint

Batch = dict[str, np.ndarray]
MEMORY_BUDGET = 2 * 2**30


@dataclass(frozen=True)
class Reader:
    """The decoded originals of the examples at `positions` of `records`, with their targets."""

    records: Records
    positions: np.ndarray

    def __call__(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C], which may differ in size, and targets."""
        return self.records.read(self.positions[np.asarray(positions)].tolist())


@dataclass(frozen=True)
class Loaded:
    """Decoded splits and their description, the same for all seeds; `for_seed` orders them.

    `splits["train"]` holds all training examples, before `data.train_examples` is applied;
    `fingerprint` says what was read (`cnnjax.fingerprint`).
    """

    config: configs.Data
    spec: DatasetSpec
    splits: Mapping[str, Split]
    in_memory: bool
    fingerprint: Fingerprint

    @property
    def fit(self) -> Fit:
        """How images are brought to size."""
        return _fit(self.config, self.spec.image_shape[:2])

    def for_seed(self, seed: int, batch_size: int) -> "Dataset":
        """The data of one run. Raises UserError if the batch is larger than the training set,
        `data.mean` is of images with other channels, or images are shifted out of sight."""
        given, channels = len(self.config.mean), self.spec.image_shape[2]
        if given not in (0, channels):
            raise UserError(
                f"data.mean: has {given} numbers, but the images of {self.spec.name!r} have "
                f"{channels} channel{'s' if channels > 1 else ''}. To scale by the data's own mean "
                "and sd: --set data.normalize=standardize"
            )
        if self.config.channel_order == "bgr" and channels != 3:
            raise UserError(
                f"data.channel_order: bgr, but the images of {self.spec.name!r} have {channels} "
                f"channel{'s' if channels > 1 else ''}. Add --set data.channel_order=rgb"
            )
        self.spec.check(self.config.augmentation)
        everything = self.splits["train"]
        chosen = split.subset(
            len(everything),
            self.config.train_examples,
            seed if self.config.subset == "per_seed" else None,
        )
        examples = len(everything) if chosen is None else len(chosen)
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
      loaded: what is shared with the other seeds.
      order: which training examples each step sees.
      chosen: positions of the subset in `loaded.splits["train"]`, None for all.
    """

    loaded: Loaded
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
        everything = self.loaded.splits
        if self.chosen is None:
            return everything
        return {**everything, "train": _take(everything["train"], self.chosen)}

    @property
    def augmentation(self) -> configs.Augmentation:
        """What is left to do on the device: a streaming data set has made its crops already."""
        augmentation = self.loaded.config.augmentation
        if self.in_memory:
            return augmentation
        return augmentation.model_copy(update={"random_resized_crop": 1.0})

    def store(self) -> dict[str, np.ndarray]:
        """What batches index: {"images": uint8 [N, H, W, C]} and the targets ([N, ...]) of all
        examples of all splits, one split after another, the same for every seed; {} when
        streaming."""
        if not self.in_memory:
            return {}
        parts = list(self.loaded.splits.values())
        targets = {
            name: np.concatenate([part.targets[name] for part in parts])
            for name in parts[0].targets
        }
        return {"images": np.concatenate([part.images for part in parts]), **targets}

    def train_batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """The host batches of the steps start_step..stop_step - 1, in order.

        In memory {"indices": int32 [B]} into `store()`; streaming {"images": uint8 [B, H, W, C]}
        and the targets ([B, ...]), with the random-resized crops already made. It starts at any
        step without going through those before.
        """
        if self.in_memory:
            return (
                {"indices": self._positions(self.order.indices(step))}
                for step in range(start_step, stop_step)
            )
        crop = self.loaded.config.augmentation.random_resized_crop
        batch = stream.TrainBatch(self.splits["train"], self.order, self.loaded.fit, crop)
        workers = self.loaded.config.stream_workers
        return stream.batches(batch, start_step, stop_step, workers)

    def eval_batches(self, name: str, batch_size: int) -> Iterator[Batch]:
        """Every example of a split exactly once, in its own order.

        As `train_batches`, with "mask": float32 [B], 1 for an example and 0 for the padding that
        fills the last batch.

        Raises UserError if there is no such split.
        """
        part = self._split(name)
        if self.in_memory:
            positions = self._places(name)
            return (
                _padded({"indices": positions[at : at + batch_size]}, batch_size)
                for at in range(0, len(part), batch_size)
            )
        batch = stream.EvalBatch(part, self.loaded.fit, batch_size)
        workers = self.loaded.config.stream_workers
        flow = stream.batches(batch, 0, -(-len(part) // batch_size), workers)
        return (_padded(batch, batch_size) for batch in flow)

    def first(self, split: str, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The first `count` images of a split, or all of fewer, uint8 [n, H, W, C], and their
        targets, [n, ...] each. Of the training images those of the run's order, not augmented: with
        `count` = batch size, the batch of step 0."""
        kept = self.splits[split]
        places = self.order.span(0, count) if split == "train" else np.arange(len(kept))[:count]
        if kept.images is not None:
            return kept.images[places], kept.targets_at(places)
        return stacked([self.loaded.fit(example) for example in kept.read(places.tolist())])

    def _positions(self, places: np.ndarray) -> np.ndarray:
        """Places in the training set used as places in `store()`."""
        return self._places("train")[places]

    def _places(self, name: str) -> np.ndarray:
        """Where the examples of a split stand in `store()`, int32 [N]."""
        before = 0
        for other, part in self.loaded.splits.items():
            if other == name:
                break
            before += len(part)
        if name == "train" and self.chosen is not None:
            return before + self.chosen
        return np.arange(before, before + len(self.loaded.splits[name]), dtype=np.int32)

    def _split(self, name: str) -> Split:
        if name not in self.loaded.splits:
            raise unknown("split", name, self.loaded.splits)
        return self.splits[name]


def load(config: configs.Data, data_dir: str | None = None) -> Loaded:
    """Find, decode (or read from the cache) and split a data set; the same for every seed.

    Raises UserError: missing or damaged data, too few examples, images of several sizes without
    `data.image_size`, a cache that cannot be written.
    """
    found = source.find(config.name, data_dir)
    size = (config.image_size, config.image_size) if config.image_size else found.size
    if size is None:
        raise decoded.several_sizes(found)
    counts = {name: len(records) for name, records in found.splits.items()}
    parts = split.parts(counts, config.validation_fraction, config.split_seed, found.groups)
    split.subset(len(parts["train"][1]), config.train_examples, None)  # is the number possible?
    image_shape = (*size, found.channels)
    in_memory = config.pipeline == "memory" or (
        config.pipeline == "auto" and counts["train"] * int(np.prod(image_shape)) <= MEMORY_BUDGET
    )
    make = _memory_splits if in_memory else _stream_splits
    splits, (mean, sd) = make(found, parts, _fit(config, size))
    spec = DatasetSpec(
        name=config.name,
        image_shape=image_shape,
        num_classes=len(found.class_names),
        class_names=found.class_names,
        mean=mean,
        sd=sd,
        variable_size=found.size is None,
    )
    return Loaded(config, spec, splits, in_memory, _fingerprint(config, found, counts, parts))


Parts = Mapping[str, tuple[str, np.ndarray]]


def _fingerprint(
    config: configs.Data, found: source.Source, counts: Mapping[str, int], parts: Parts
) -> Fingerprint:
    return {
        "name": found.name,
        "version": found.version,
        "class_names": fingerprint.names(found.class_names),
        "examples": dict(counts),
        "content": found.content,
        "division": {
            "validation_fraction": config.validation_fraction,
            "split_seed": config.split_seed,
        },
        "splits": {
            name: f"{len(positions)} of {origin}, {content.of_arrays(positions)}"
            for name, (origin, positions) in parts.items()
        },
    }


def _fit(config: configs.Data, size: tuple[int, int]) -> Fit:
    return Fit(size, config.interpolation, config.shorter_side)


def _memory_splits(
    found: source.Source, parts: Parts, fit: Fit
) -> tuple[dict[str, Split], decoded.Moments]:
    whole = {origin: decoded.decoded(found, origin, fit) for origin, _ in parts.values()}
    splits = {}
    for name, (origin, positions) in parts.items():
        part, reader = whole[origin], Reader(found.splits[origin], positions)
        images = part.images if len(positions) == len(part.images) else part.images[positions]
        targets = {target: values[positions] for target, values in part.targets.items()}
        splits[name] = Split(positions, targets, images, reader)
    sums = whole["train"].sums[parts["train"][1]]
    return splits, decoded.moments(sums, fit)


def _stream_splits(
    found: source.Source, parts: Parts, fit: Fit
) -> tuple[dict[str, Split], decoded.Moments]:
    splits = {}
    for name, (origin, positions) in parts.items():
        reader = Reader(found.splits[origin], positions)
        whole = decoded.targets(found, origin)
        targets = {target: values[positions] for target, values in whole.items()}
        splits[name] = Split(positions, targets, None, reader)
    return splits, decoded.streamed_moments(found, splits["train"], fit)


def _take(part: Split, chosen: np.ndarray) -> Split:
    images = None if part.images is None else part.images[chosen]
    reader = part.read
    if isinstance(reader, Reader):
        reader = replace(reader, positions=reader.positions[chosen])
    return Split(part.ids[chosen], part.targets_at(chosen), images, reader)


def _padded(batch: Batch, batch_size: int) -> Batch:
    count = len(next(iter(batch.values())))
    missing = batch_size - count
    filled = {
        name: np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
        if missing
        else values
        for name, values in batch.items()
    }
    mask = (np.arange(batch_size) < count).astype(np.float32)
    return {**filled, "mask": mask}
