"""Random access to the examples of a split, wherever they are stored. All of it can be pickled."""

import contextlib
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from cnnjax import files
from cnnjax.data import pictures
from cnnjax.errors import UserError

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""
Example = tuple[np.ndarray, Mapping[str, ArrayLike]]
"""An image uint8 [h, w, C] and its targets, what is to be predicted: for classes `label`, int32."""


class Records(Protocol):
    """The examples of one split as their source holds them."""

    def __len__(self) -> int: ...

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C] and targets of the examples at `positions`. (A prepared TFDS
        directory reads a thousand examples at once four times as fast as one by one.)"""

    def targets(self) -> Mapping[str, np.ndarray]:
        """The targets of all examples, [N, ...] each, without decoding the images."""


@dataclass(frozen=True)
class ArrayRecords:
    """Examples in memory: images uint8 [N, H, W, C], targets [N, ...]."""

    images: np.ndarray
    all_targets: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [H, W, C] and targets."""
        return [(self.images[index], _targets_at(index, self.all_targets)) for index in positions]

    def targets(self) -> Mapping[str, np.ndarray]:
        """The targets of all examples, [N, ...] each."""
        return self.all_targets


@dataclass(frozen=True)
class FolderRecords:
    """Image files and their targets, [N, ...] each."""

    paths: Sequence[Path]
    all_targets: Mapping[str, np.ndarray]
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C] and targets. Raises UserError if a file is damaged."""
        return [
            (pictures.read(self.paths[index], self.channels), _targets_at(index, self.all_targets))
            for index in positions
        ]

    def targets(self) -> Mapping[str, np.ndarray]:
        """The targets of all examples, [N, ...] each."""
        return self.all_targets


@dataclass(frozen=True)
class TfdsRecords:
    """A split of a prepared TFDS directory in a random-access format, read without TensorFlow."""

    directory: Path
    split: str
    image_key: str
    label_key: str
    channels: int

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        with _one_line_errors(self):
            builder = tfds.builder_from_directory(self.directory)
            decoders = {self.image_key: tfds.decode.SkipDecoding()}
            return builder.as_data_source(split=self.split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C] and targets. Raises UserError if the directory is damaged."""
        where = f"{self.directory}, split {self.split!r}"
        return [
            (
                pictures.decode(io.BytesIO(row[self.image_key]), self.channels, where),
                {"label": np.int32(int(row[self.label_key]))},
            )
            for row in self._rows([int(index) for index in positions])
        ]

    def targets(self) -> Mapping[str, np.ndarray]:
        """`label`, int32 [N], read without decoding the images."""
        starts = range(0, len(self), 1000)
        chunks = (self._rows(list(range(i, min(i + 1000, len(self))))) for i in starts)
        labels = [row[self.label_key] for rows in chunks for row in rows]
        return {"label": np.array(labels, np.int32)}

    def first_label(self) -> int:
        """The label of the first example; -1 where the labels of a split are withheld."""
        return int(self._rows([0])[0][self.label_key])

    def _rows(self, positions: list[int]) -> list[dict[str, Any]]:
        source = self._source
        with _one_line_errors(self):
            return list(source.__getitems__(positions))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_source"}


@contextlib.contextmanager
def _one_line_errors(records: TfdsRecords) -> Iterator[None]:
    """Turns whatever the reader of damaged files raises into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{records.directory}: split {records.split!r} cannot be read "
            f"({files.reason(error)}); delete the folder and prepare the data set again."
        ) from error


def stack_examples(examples: Sequence[Example]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Examples of one size as arrays: images uint8 [N, H, W, C], and targets [N, ...]."""
    images, targets = zip(*examples, strict=True)
    return np.stack(images), {
        name: np.array([each[name] for each in targets]) for name in targets[0]
    }


def _targets_at(index: int, targets: Mapping[str, np.ndarray]) -> Mapping[str, ArrayLike]:
    return {name: values[index] for name, values in targets.items()}


class Resize(NamedTuple):
    """How images are resized: `resize(example)`.

    Attributes:
      size: (height, width) after resizing; None keeps each image's size.
      interpolation: nearest, bilinear, bicubic or lanczos (Pillow's: antialiased).
      shorter_side: None stretches the whole image to `size`, whatever its aspect ratio. A number
        keeps the aspect ratio: the shorter side becomes so many pixels, and the centre of `size` is
        cropped (rounded as torchvision does).
    """

    size: tuple[int, int] | None
    interpolation: str = "bilinear"
    shorter_side: int | None = None

    def __call__(self, example: Example, box: Box | None = None) -> Example:
        """The example with its image resized, see `image`; labels are unchanged."""
        image, targets = example
        return self.image(image, box), targets

    def image(self, image: np.ndarray, box: Box | None = None) -> np.ndarray:
        """An image uint8 [h, w, C] of one or three channels, or its part `box` stretched, as
        uint8 [H, W, C]."""
        size = self.size or image.shape[:2]
        if box is None and self.shorter_side is not None:
            return self._centre_crop(image, size, self.shorter_side)
        if box is None and image.shape[:2] == size:
            return image
        return self._resize(image, size, box)

    def _centre_crop(self, image: np.ndarray, size: tuple[int, int], shorter: int) -> np.ndarray:
        height, width = image.shape[:2]
        old = min(height, width)
        resized = (shorter * height // old, shorter * width // old)
        if resized != (height, width):
            image = self._resize(image, resized, None)
        top, left = (round((full - crop) / 2) for full, crop in zip(resized, size, strict=True))
        return image[top : top + size[0], left : left + size[1]]

    def _resize(self, image: np.ndarray, size: tuple[int, int], box: Box | None) -> np.ndarray:
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        method = Image.Resampling[self.interpolation.upper()]
        resized = picture.resize((size[1], size[0]), method, box=box)
        return np.asarray(resized).reshape(*size, image.shape[2])
