"""Random access to the examples of a split, wherever they are stored. All of it can be pickled."""

import contextlib
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from cnnjax import files
from cnnjax.data import boxes, pictures
from cnnjax.data.targets import IGNORE
from cnnjax.errors import MachineError, UserError

Box = tuple[float, float, float, float]
"""A part of an image: (left, top, right, bottom) in pixels."""
Example = tuple[np.ndarray, Mapping[str, ArrayLike]]
"""An image uint8 [h, w, C] and its targets (`cnnjax.data.targets`) without the first axis: a mask
is uint8 [h, w]."""


@dataclass(frozen=True)
class ArrayRecords:
    """Examples in memory: images uint8 [N, H, W, C], targets [N, ...]."""

    images: np.ndarray
    targets: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [H, W, C] and targets."""
        return [(self.images[index], targets_at(self.targets, index)) for index in positions]


@dataclass(frozen=True)
class FolderRecords:
    """Image files and their targets, [N, ...] each; masks are files too.

    Attributes:
      paths: of the images.
      targets: except masks.
      channels: 1 or 3.
      masks: one for each image, or ().
      mask_classes: int16 [256], the class of each value of a mask, -1 for one that is not allowed.
      hint: what to do about an image that cannot be read.
    """

    paths: Sequence[Path]
    targets: Mapping[str, np.ndarray]
    channels: int
    masks: Sequence[Path] = ()
    mask_classes: np.ndarray | None = None
    hint: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C] and targets. Raises UserError if a file is damaged."""
        return [(self._image(index), self._targets(index)) for index in positions]

    def _image(self, index: int) -> np.ndarray:
        try:
            return pictures.read(self.paths[index], self.channels)
        except MachineError:
            raise
        except UserError as error:
            raise UserError(f"{error}{self.hint}") from None

    def _targets(self, index: int) -> Mapping[str, ArrayLike]:
        targets = targets_at(self.targets, index)
        if not self.masks or self.mask_classes is None:
            return targets
        classes = self.mask_classes[pictures.read_mask(self.masks[index])]
        if (classes < 0).any():
            raise UserError(f"{self.masks[index]}: has changed while it was used.")
        return {**targets, "mask": classes.astype(np.uint8)}


class Features(NamedTuple):
    """The features of a TFDS set that are read; None for those that it does not have.

    Attributes:
      image: with the image.
      label: with the class.
      mask: with the mask.
      box: with the box.
      objects: the sequence of objects with boxes, the largest of which is the target, and, if there
        is no `label`, their classes.
    """

    image: str
    label: str | None
    mask: str | None
    box: str | None
    objects: str | None

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets."""
        names = {"label": self.label or self.objects, "box": self.box or self.objects}
        names["mask"] = self.mask
        return tuple(name for name, key in names.items() if key)


@dataclass(frozen=True)
class TfdsRecords:
    """A split of a prepared TFDS directory in a random-access format, read without TensorFlow.

    Attributes:
      directory: with the files.
      split: as the directory calls it.
      features: what is read of each example.
      channels: 1 or 3.
      mask_classes: int16 [256], the class of each value of a mask, -1 for one that is not allowed;
        None for the values themselves.
      positions: of the examples that are used, int [N]; None for all.
    """

    directory: Path
    split: str
    features: Features
    channels: int
    mask_classes: np.ndarray | None = None
    positions: np.ndarray | None = None

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        with _one_line_errors(self):
            builder = tfds.builder_from_directory(self.directory)
            encoded = filter(None, (self.features.image, self.features.mask))
            decoders = {key: tfds.decode.SkipDecoding() for key in encoded}
            return builder.as_data_source(split=self.split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source if self.positions is None else self.positions)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """Images uint8 [h, w, C] and targets. A thousand examples at once are read four times as
        fast as one by one. Raises UserError if the directory is damaged, or a target is not
        valid."""
        where = f"{self.directory}, split {self.split!r}"
        return [
            (
                pictures.decode(io.BytesIO(row[self.features.image]), self.channels, where),
                self._targets(row, index),
            )
            for index, row in self._rows([int(index) for index in positions])
        ]

    def labels(self) -> np.ndarray:
        """The target `label`, int32 [N], read without decoding the images."""
        assert self.features.label is not None
        return np.array([row[self.features.label] for _, row in self._all_rows()], np.int32)

    def checked_targets(self) -> Iterator[Mapping[str, ArrayLike] | UserError]:
        """The targets of each example, or why they cannot be used; images are not decoded."""
        for index, row in self._all_rows():
            try:
                yield self._targets(row, index)
            except UserError as error:
                yield error

    def first_label(self) -> int:
        """The label of the first example; -1 where the labels of a split are withheld."""
        assert self.features.label is not None
        return int(self._rows([0])[0][1][self.features.label])

    def _all_rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for start in range(0, len(self), 1000):
            yield from self._rows(list(range(start, min(start + 1000, len(self)))))

    def _rows(self, positions: list[int]) -> list[tuple[int, dict[str, Any]]]:
        """(index in the split, features) of the examples at `positions`."""
        source = self._source
        indices = positions if self.positions is None else self.positions[positions].tolist()
        with _one_line_errors(self):
            return list(zip(indices, source.__getitems__(indices), strict=True))

    def _targets(self, row: Mapping[str, Any], index: int) -> Mapping[str, ArrayLike]:
        """The targets in the features of an example. Raises UserError if they are not valid."""
        targets: dict[str, ArrayLike] = {}
        features = self.features
        where = f"{self.directory}, split {self.split!r}, example {index}"
        if features.label is not None:
            targets["label"] = np.int32(int(row[features.label]))
        if features.targets == ("label",):
            return targets
        size = pictures.size(io.BytesIO(row[features.image]), where)
        if features.box is not None:
            targets["box"] = tfds_box(np.asarray(row[features.box]), size, where)
        if features.objects is not None:
            objects = row[features.objects]
            corners = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)
            if not len(corners):
                raise UserError(f"{where}: has no objects.")
            largest = int(np.argmax(np.prod(corners[:, 2:] - corners[:, :2], axis=1)))
            targets["box"] = tfds_box(corners[largest], size, where)
            if features.label is None:
                targets["label"] = np.int32(int(objects["label"][largest]))
        if features.mask is not None:
            targets["mask"] = self._mask(io.BytesIO(row[features.mask]), size, where)
        return targets

    def _mask(self, file: io.BytesIO, size: tuple[int, int], where: str) -> np.ndarray:
        mask = pictures.decode_mask(file, f"{where}: its mask")
        if mask.shape != size:
            shape, size_of_image = (f"{height}x{width}" for height, width in (mask.shape, size))
            raise UserError(f"{where}: its mask is {shape}, but its image is {size_of_image}.")
        if self.mask_classes is None:
            return mask
        classes = self.mask_classes[mask]
        if (classes < 0).any():
            raise UserError(
                f"{where}: its mask has the value {mask[classes < 0][0]}; allowed: "
                f"{', '.join(map(str, np.flatnonzero(self.mask_classes >= 0)))}."
            )
        return classes.astype(np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_source"}


Records = ArrayRecords | FolderRecords | TfdsRecords
"""The examples of one split as their source holds them."""


def tfds_box(corners: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """The box, float32 [4], of TFDS's (ymin, xmin, ymax, xmax) in shares; 0 for one of size 0."""
    y0, x0, y1, x1 = corners.astype(np.float64).tolist()
    down, across = (0.5 / side for side in size)  # half a pixel
    if not (-down <= y0 <= y1 <= 1 + down and -across <= x0 <= x1 <= 1 + across):  # NaN too
        raise UserError(
            f"{where}: the box (ymin, xmin, ymax, xmax) = ({y0:g}, {x0:g}, {y1:g}, {x1:g}) is not "
            "inside the image; allowed: shares of its sides, from 0 to 1."
        )
    return boxes.clip(boxes.from_corners(x0, y0, x1, y1)).astype(np.float32)


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
    return np.stack(images), stack_targets(targets)


def stack_targets(targets: Sequence[Mapping[str, ArrayLike]]) -> dict[str, np.ndarray]:
    """Targets of examples as arrays, [N, ...] each."""
    return {name: np.array([each[name] for each in targets]) for name in targets[0]}


def targets_at(targets: Mapping[str, np.ndarray], positions: Any) -> dict[str, np.ndarray]:
    """The targets of the examples at one position or several."""
    return {name: values[positions] for name, values in targets.items()}


class Resize(NamedTuple):
    """How images and their targets are resized: `resize(example)`.

    Masks are resized by taking the nearest pixel, so that no class appears that was not there.

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
        """The example with its image and targets resized, see `image` and `targets`."""
        image, targets = example
        return self.image(image, box), self.targets(image, targets, box)

    def image(self, image: np.ndarray, box: Box | None = None) -> np.ndarray:
        """An image uint8 [h, w, C] of one or three channels, or its part `box` stretched, as
        uint8 [H, W, C]."""
        size = self.size or image.shape[:2]
        if box is not None or self.shorter_side is None:
            return _resize(image, self.interpolation, size, box)
        resized = _shorter_side(self.shorter_side, *image.shape[:2])
        top, left = _centre(resized, size)
        image = _resize(image, self.interpolation, resized, None)
        return image[top : top + size[0], left : left + size[1]]

    def targets(
        self, image: np.ndarray, targets: Mapping[str, ArrayLike], box: Box | None = None
    ) -> Mapping[str, ArrayLike]:
        """The targets of an image, uint8 [h, w, C], when it is resized.

        A mask, uint8 [h, w], becomes uint8 [H, W]; of the box of an object the part that remains
        visible is kept, which is 0 in all four numbers if there is none. Labels are unchanged.
        """
        resized = dict(targets)
        if "mask" in targets:
            mask, nearest = np.asarray(targets["mask"]), self._replace(interpolation="nearest")
            resized["mask"] = nearest.image(mask[:, :, None], box)[:, :, 0]
        if "box" in targets and (box is not None or self.shorter_side is not None):
            height, width = image.shape[:2]
            left, top, right, bottom = box or self.visible(height, width)
            full = np.array([width, height], np.float64)
            corner, size = np.array([left, top]) / full, np.array([right - left, bottom - top])
            moved = boxes.crop(np.asarray(targets["box"], np.float64), corner, size / full)
            resized["box"] = moved.astype(np.float32)
        return resized

    def original_box(self, box: np.ndarray, height: int, width: int) -> Box:
        """A box of the resized image, [4], as (left, top, right, bottom) in pixels of the image of
        this size that it was made of, clipped to it."""
        left, top, right, bottom = self.visible(height, width)
        shares = np.array(boxes.to_corners(box.astype(np.float64)))
        corner, size = np.array([left, top] * 2), np.array([right - left, bottom - top] * 2)
        x0, y0, x1, y1 = np.clip(corner + shares * size, 0, [width, height] * 2).tolist()
        return x0, y0, x1, y1

    def original_mask(self, mask: np.ndarray, height: int, width: int) -> np.ndarray:
        """A mask of the resized image, uint8 [H, W], at the size of the image that it was made of,
        uint8 [height, width], by the nearest pixel; IGNORE where that was cut away."""
        left, top, right, bottom = self.visible(height, width)
        rows = np.floor((np.arange(height) + 0.5 - top) / (bottom - top) * mask.shape[0])
        columns = np.floor((np.arange(width) + 0.5 - left) / (right - left) * mask.shape[1])
        inside_rows = (rows >= 0) & (rows < mask.shape[0])
        inside_columns = (columns >= 0) & (columns < mask.shape[1])
        kept = np.ix_(rows[inside_rows].astype(int), columns[inside_columns].astype(int))
        original = np.full((height, width), IGNORE, np.uint8)
        original[np.ix_(inside_rows, inside_columns)] = mask[kept]
        return original

    def visible(self, height: int, width: int) -> Box:
        """The part of an image of this size that is kept."""
        if self.size is None or self.shorter_side is None:
            return 0.0, 0.0, float(width), float(height)
        resized = _shorter_side(self.shorter_side, height, width)
        top, left = _centre(resized, self.size)
        down, right = height / resized[0], width / resized[1]  # pixels of the image per pixel
        bottom, end = top + self.size[0], left + self.size[1]
        return left * right, top * down, end * right, bottom * down


def _shorter_side(shorter: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) after resizing so that the shorter side has `shorter` pixels."""
    old = min(height, width)
    return shorter * height // old, shorter * width // old


def _centre(full: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(top, left) of a part of `size` in the centre of an image of size `full`."""
    return round((full[0] - size[0]) / 2), round((full[1] - size[1]) / 2)


def _resize(
    image: np.ndarray, interpolation: str, size: tuple[int, int], box: Box | None
) -> np.ndarray:
    if box is None and image.shape[:2] == size:
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    method = Image.Resampling[interpolation.upper()]
    resized = picture.resize((size[1], size[0]), method, box=box)
    return np.asarray(resized).reshape(*size, image.shape[2])
