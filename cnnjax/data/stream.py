"""Streaming with Grain: decoding and resizing while the network trains, in the order of `Order`."""

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
from cnnjax.data.records import Box, Example, Fit, stacked
from cnnjax.data.spec import Split
from cnnjax.errors import UserError

Batch = dict[str, np.ndarray]
THREADS = 4
TRIES = 10


@dataclass(frozen=True)
class TrainBatch:
    """The batch of a step: read, decoded and brought to size.

    A random-resized crop is keyed by (seed, step, place in the batch), so it depends neither on the
    worker nor on where the run was resumed.
    """

    split: Split
    order: Order
    fit: Fit
    smallest_crop: float

    def __call__(self, step: int) -> Batch:
        """{"images": uint8 [B, H, W, C]} and the targets ([B, ...]) of one step."""
        positions = self.order.indices(step)
        examples = self.split.read(positions.tolist())
        boxes = [self._box(image, step, place) for place, (image, _) in enumerate(examples)]
        return _batch([self.fit(*pair) for pair in zip(examples, boxes, strict=True)])

    def _box(self, image: np.ndarray, step: int, place: int) -> Box | None:
        if self.smallest_crop == 1:
            return None
        draws = keys.uniform(4 * TRIES, "crop", self.order.seed, step, place)
        return crop_box(image.shape[0], image.shape[1], self.smallest_crop, draws)


@dataclass(frozen=True)
class EvalBatch:
    """A batch of a split in its own order; the last one may be smaller."""

    split: Split
    fit: Fit
    batch_size: int

    def __call__(self, number: int) -> Batch:
        """{"images": uint8 [B, H, W, C]} and the targets ([B, ...]) of batch `number`, from 0."""
        start = number * self.batch_size
        positions = range(start, min(start + self.batch_size, len(self.split)))
        return _batch([self.fit(example) for example in self.split.read(positions)])


def _batch(examples: list[Example]) -> Batch:
    images, targets = stacked(examples)
    return {"images": images, **targets}


def batches(batch: TrainBatch | EvalBatch, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """The batches number start..stop - 1, in order, made ahead of their use.

    With 0 workers by threads of this process; otherwise by Grain's worker processes, which want
    absl's flags parsed.

    Workers import the main program anew, which must therefore guard its start with
    `if __name__ == "__main__"`.

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
    flow = grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers)
        flow = flow.mp_prefetch(options, functools.partial(_serve, os.getpid()))
    return iter(flow)


def _serve(parent: int, number: int, workers: int) -> None:
    """In a worker process: it ends with the process that started it, however that ends, and not
    before. A signal that asks all processes of a job to end, or Ctrl-C, is for that one, which may
    need further batches to end well.

    The kernel can do this too (PR_SET_PDEATHSIG), but takes the thread that started the process for
    its parent, and Grain starts it from one that does not last.
    """
    del number, workers
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
    [3/4, 4/3] (Szegedy et al. 2015, section 6); after ten draws that do not fit, all of the image.

    Args:
      height, width: of the image.
      smallest: share of the area, in (0, 1].
      draws: 40 numbers, uniform in [0, 1).
    """
    for area_draw, ratio_draw, top, left in draws.reshape(-1, 4):
        area = height * width * (smallest + (1 - smallest) * area_draw)
        ratio = math.exp(math.log(4 / 3) * (2 * ratio_draw - 1))
        high, wide = math.sqrt(area / ratio), math.sqrt(area * ratio)
        if high <= height and wide <= width:
            y, x = float(top) * (height - high), float(left) * (width - wide)
            return x, y, x + wide, y + high
    return 0.0, 0.0, float(width), float(height)
