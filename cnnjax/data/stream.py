"""Streaming with Grain: images are decoded and resized while the network trains."""

import functools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnjax.data import keys
from cnnjax.data.order import Order
from cnnjax.data.records import Box, Example, Resize, stack_examples
from cnnjax.data.spec import Split
from cnnjax.errors import UserError

HostBatch = dict[str, np.ndarray]
"""Arrays [B, ...] by name on the host: `indices`, or `images` and the targets; maybe `valid`."""
THREADS = 4
MAX_TRIES = 10


@dataclass(frozen=True)
class TrainBatch:
    """The batch of a step: read, decoded and resized.

    A random-resized crop is keyed by (seed, step, index in the batch), so it depends neither on the
    worker nor on where the run was resumed.
    """

    split: Split
    order: Order
    resize: Resize
    smallest_crop: float

    def __call__(self, step: int) -> HostBatch:
        """{"images": uint8 [B, H, W, C]} and the targets ([B, ...]) of one step."""
        examples = self.split.read(self.order.indices(step).tolist())
        boxes = [self._box(image, step, index) for index, (image, _) in enumerate(examples)]
        return _batch([self.resize(*pair) for pair in zip(examples, boxes, strict=True)])

    def _box(self, image: np.ndarray, step: int, index: int) -> Box | None:
        if self.smallest_crop == 1:
            return None
        draws = keys.uniform(4 * MAX_TRIES, "crop", self.order.seed, step, index)
        return crop_box(image.shape[0], image.shape[1], self.smallest_crop, draws)


@dataclass(frozen=True)
class EvalBatch:
    """A batch of a split in its own order; the last one may be smaller."""

    split: Split
    resize: Resize
    batch_size: int

    def __call__(self, number: int) -> HostBatch:
        """{"images": uint8 [B, H, W, C]} and the targets ([B, ...]) of batch `number`, from 0."""
        start = number * self.batch_size
        positions = range(start, min(start + self.batch_size, len(self.split)))
        return _batch([self.resize(example) for example in self.split.read(positions)])


def _batch(examples: list[Example]) -> HostBatch:
    images, targets = stack_examples(examples)
    return {"images": images, **targets}


def batches(
    batch: TrainBatch | EvalBatch, start: int, stop: int, workers: int
) -> Iterator[HostBatch]:
    """The batches number start..stop - 1, in order, prefetched.

    They are made by threads of this process, or by so many `workers`, processes of Grain. These
    need absl's flags to be parsed, and import the main program again, which must therefore guard
    its start with `if __name__ == "__main__"`.

    Raises UserError if there are workers but absl's flags were not parsed.
    """
    import grain
    from absl import flags

    if workers and not flags.FLAGS.is_parsed():
        raise UserError(
            f"data.stream_workers: {workers} needs absl's flags parsed first (programs in launch "
            "do that; elsewhere call absl.flags.FLAGS.mark_as_parsed()), or use 0."
        )
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)
    dataset = grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers)
        dataset = dataset.mp_prefetch(options, functools.partial(_initialize_worker, os.getpid()))
    return iter(dataset)


def _initialize_worker(parent: int, *_: int) -> None:
    """Makes a worker process end with its parent process, however that ends, and not before.
    Signals that ask a whole job to end, and Ctrl-C, are ignored: the parent handles them, and may
    need further batches to end well.

    PR_SET_PDEATHSIG would take the thread that started the worker for its parent, and Grain starts
    workers from a thread that does not last.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def crop_box(height: int, width: int, smallest: float, draws: np.ndarray) -> Box:
    """A random part of an image: (left, top, right, bottom) in pixels.

    Its area is uniform in [smallest, 1] of the image's, its aspect ratio log-uniform in
    [3/4, 4/3] (Szegedy et al. 2015, section 6); after ten draws that do not fit, the whole image.

    Args:
      height, width: of the image in pixels.
      smallest: share of the area, in (0, 1].
      draws: 40 numbers, uniform in [0, 1).
    """
    for area_draw, ratio_draw, top, left in draws.reshape(-1, 4):
        area = height * width * (smallest + (1 - smallest) * area_draw)
        ratio = math.exp(math.log(4 / 3) * (2 * ratio_draw - 1))
        box_height, box_width = math.sqrt(area / ratio), math.sqrt(area * ratio)
        if box_height <= height and box_width <= width:
            y, x = float(top) * (height - box_height), float(left) * (width - box_width)
            return x, y, x + box_width, y + box_height
    return 0.0, 0.0, float(width), float(height)
