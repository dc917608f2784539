"""What a data set is: its shape and its splits."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax.config import Augmentation
from cnnjax.data.records import Example
from cnnjax.errors import UserError


def showable(name: str) -> bool:
    """Whether a terminal, a page and a file of UTF-8 show a name as it is: it has no control
    characters, no line ends and no bytes of another encoding."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)


@dataclass(frozen=True)
class DatasetSpec:
    """What models and tasks need to know of a data set.

    Attributes:
      name: as in `data.name`.
      image_shape: (height, width, channels) of the images as the network gets them.
      num_classes: number of classes; labels lie in [0, num_classes).
      class_names: one for each class, in the order of the labels.
      mean, sd: of each channel, in the 0..1 scale, from the training split before subsetting.
      variable_size: whether the originals differ in size (and were resized).
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    variable_size: bool

    def check(self, augmentation: Augmentation) -> None:
        """Raises UserError where images are to be changed by more than their size."""
        height, width, _ = self.image_shape
        most = {"shift_pixels": min(height, width) - 1, "cutout_pixels": max(height, width)}
        for field, pixels in most.items():
            asked = getattr(augmentation, field)
            if asked > pixels:
                raise UserError(
                    f"data.augmentation.{field}: {asked} is beyond the images, which are {height} "
                    f"x {width}; allowed: 0 to {pixels}"
                )


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
      ids: int32 [N], the examples' positions in the source's split they were drawn from.
      targets: what is to be predicted, {name: [N, ...]}; of classes `label`, int32 [N].
      images: uint8 [N, H, W, C], resized; None where the data set is streamed.
      read: the decoded originals, uint8 [h, w, C] each, of the examples at some positions, with
        their targets.
    """

    ids: np.ndarray
    targets: Mapping[str, np.ndarray]
    images: np.ndarray | None
    read: Callable[[Sequence[int]], list[Example]]

    def __len__(self) -> int:
        return len(self.ids)

    def targets_at(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """The targets of the examples at some places."""
        return {name: values[places] for name, values in self.targets.items()}
