"""What a data set is: its source, its shape and its splits."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax.config import Augmentation
from cnnjax.data.records import Example, Records, targets_at
from cnnjax.errors import UserError

SPLITS = ("train", "validation", "test")


def showable(name: str) -> bool:
    """Whether a name can be printed and written as UTF-8: it has no control characters, no line
    ends and no bytes of another encoding."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)


def bad_examples(reasons: Sequence[str]) -> UserError:
    """The error for examples that cannot be used; only the first of the reasons is given."""
    which = "the bad example" if len(reasons) == 1 else f"all {len(reasons)} bad examples"
    return UserError(f"{reasons[0]} (data.skip_bad=true leaves out {which}.)")


@dataclass(frozen=True)
class Source:
    """A data set before it is split, subset or resized.

    Attributes:
      name: as in `data.name`.
      key: a digest of version, path and files, for the names of cache folders.
      class_names: one for each label; () without labels.
      channels: 1 or 3.
      size: (height, width) of all images, None if they vary.
      splits: records of `train` and, where the source has them, `validation` and `test`.
      content: a digest of the content of its files, wherever they are (`cnnjax.data.content`).
      version: of a TFDS set, with its config; "" otherwise.
      groups: the group of each example of `train`, int [N]; a group is never divided between
        splits. None if each example is a group of its own.
      targets: the names of the targets of its records, as in `cnnjax.data.targets`.
      mask_names: one for each class of a pixel; () without masks.
      left_out: why each example that is left out (`data.skip_bad`) cannot be used.
    """

    name: str
    key: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    splits: Mapping[str, Records]
    content: str
    version: str = ""
    groups: np.ndarray | None = None
    targets: tuple[str, ...] = ("label",)
    mask_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """What models and tasks need to know of a data set.

    Attributes:
      name: as in `data.name`.
      image_shape: (height, width, channels) of the network's inputs.
      num_classes: number of classes; labels lie in [0, num_classes). 0 without labels.
      class_names: one for each class, in the order of the labels.
      mean, sd: of each channel, in the 0..1 scale, from the training split before subsetting.
      targets: the names of the targets, as in `cnnjax.data.targets`.
      mask_names: one for each class of a pixel, in the order of the values of masks; () without
        masks.
      mask_pixels: the pixels of each class of the resized masks of the training split before
        subsetting.
      mask_present: for each class, the pixels of all these masks in which it occurs. Pixels whose
        class is not known count in neither.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    targets: tuple[str, ...] = ("label",)
    mask_names: tuple[str, ...] = ()
    mask_pixels: tuple[int, ...] = ()
    mask_present: tuple[int, ...] = ()

    def check(self, augmentation: Augmentation) -> None:
        """Raises UserError for an augmentation that is larger than the images."""
        height, width, _ = self.image_shape
        limits = {"shift_pixels": min(height, width) - 1, "cutout_pixels": max(height, width)}
        for field, limit in limits.items():
            pixels = getattr(augmentation, field)
            if pixels > limit:
                raise UserError(
                    f"data.augmentation.{field}: {pixels} is beyond the images, which are {height} "
                    f"x {width}; allowed: 0 to {limit}"
                )


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
      ids: int32 [N], the positions of the examples in the split of the source.
      targets: what is to be predicted, resized as the images, {name: [N, ...]}.
      images: uint8 [N, H, W, C], resized; None where the data set is streamed.
      records: the split of the source.
    """

    ids: np.ndarray
    targets: Mapping[str, np.ndarray]
    images: np.ndarray | None
    records: Records

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, positions: Sequence[int]) -> list[Example]:
        """The decoded originals at `positions`, uint8 [h, w, C] each, and their targets."""
        return self.records.read(self.ids[np.asarray(positions)].tolist())

    def take(self, positions: np.ndarray) -> "Split":
        """The split of the examples at `positions`."""
        images = None if self.images is None else self.images[positions]
        return Split(self.ids[positions], targets_at(self.targets, positions), images, self.records)
