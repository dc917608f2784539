"""What folders of images hold and how they are divided, in a few lines to read before training."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cnnjax import config as configs
from cnnjax.data import content, folder, pictures, split

MOST_CLASSES = 12
"""Of more classes the smallest and the largest count are given, not all of them."""
SPLITS = ("train", "validation", "test")


def describe(data: Iterable[configs.Data]) -> list[str]:
    """Lines about the folders of images among some data sets, each folder and each division of it
    once; nothing about other data sets.

    Classes and their counts in each split; how the splits come about; what is ignored or converted;
    copies (files of the same content) in several classes or splits, and classes that a split lacks,
    as warnings.

    Raises UserError, as `folder.read` and `split.parts` do.
    """
    divisions: dict[str, dict[tuple[float, int | None], None]] = {}
    for config in data:
        if config.name.startswith(folder.PREFIX):
            drawn = (config.validation_fraction, config.split_seed)
            divisions.setdefault(config.name, {})[drawn] = None
    lines = []
    for name, draws in divisions.items():
        images = folder.read(name)
        lines.append(f"{name}: {_what(images)}")
        lines += [f"  {line}" for line in (*_converted(images), *_copies_in_classes(images))]
        for fraction, seed in draws:
            lines += [f"  {line}" for line in _division(images, fraction, seed)]
    return lines


def _what(images: folder.Folder) -> str:
    size = f"{images.size[0]}x{images.size[1]}" if images.size else "of several sizes"
    colour = "grey" if images.channels == 1 else "colour"
    return f"{len(images.names)} {colour} images {size} in {len(images.class_names)} classes"


def _converted(images: folder.Folder) -> Iterator[str]:
    """What is left out of the files, and what is made of the rest."""
    if images.ignored:
        yield f"ignored: {folder.counted(images.ignored)}"
    contents, count = images.contents, len(images.names)
    grey = np.isin(contents["mode"], pictures.GREY)
    if images.channels == 1 and not grey.all():
        yield (
            f"all become grey, as the first one is ({images.names[0]}); {(~grey).sum()} of {count} "
            "are in colour"
        )
    if images.channels == 3 and grey.any():
        yield (
            f"{grey.sum()} of {count} are grey and become colour, as the first one is "
            f"({images.names[0]})"
        )
    sixteen = np.isin(contents["mode"], pictures.SIXTEEN_BITS).sum()
    for number, text in (
        (contents["alpha"].sum(), "transparency, which is dropped"),
        (sixteen, "more than 8 bits: the upper 8 of 16 are kept"),
        (contents["frames"].sum(), "several frames or pages, of which the first is kept"),
    ):
        if number:
            yield f"{number} of {count} have {text}"
    if not images.whole:
        limit = content.MOST_BYTES // 2**30
        yield f"the files are larger than {limit} GiB together; copies were not looked for"


def _division(images: folder.Folder, fraction: float, seed: int | None) -> Iterator[str]:
    counts = {name: part.stop - part.start for name, part in images.splits.items()}
    train = images.splits["train"]
    groups = None if images.groups is None else images.groups[train]
    parts = {
        name: images.splits[origin].start + positions
        for name, (origin, positions) in split.parts(counts, fraction, seed, groups).items()
    }
    yield _drawn(images, fraction, seed, set(parts) - set(counts))
    per_class = {
        name: np.bincount(images.labels[positions], minlength=len(images.class_names))
        for name, positions in parts.items()
    }
    yield from _counts(images, per_class)
    for name, numbers in per_class.items():
        lacking = [images.class_names[label] for label in np.flatnonzero(numbers == 0).tolist()]
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            yield f"warning: {name} has no images of {', '.join(lacking[:5])}{more}"
    yield from _copies_in_splits(images, parts)


def _drawn(images: folder.Folder, fraction: float, seed: int | None, drawn: set[str]) -> str:
    """How the splits come about."""
    if not drawn:
        return "splits: the folder's own"
    shares = [f"{100 * split.TEST_SHARE:g}% of the images for test"] if "test" in drawn else []
    if "validation" in drawn:
        rest = "the rest" if shares else "the training images"
        shares.append(f"{100 * fraction:g}% of {rest} for validation")
    which = "a fixed draw" if seed is None else f"draw {seed} (data.split_seed)"
    groups = ""
    if images.groups is not None:
        number = len(np.unique(images.groups[images.splits["train"]]))
        groups = f", by the {number} groups of groups.csv and so approximately"
    return f"splits: {' and '.join(shares)}, {which} for all arms and seeds{groups}"


def _counts(images: folder.Folder, per_class: dict[str, np.ndarray]) -> Iterator[str]:
    names = [name for name in SPLITS if name in per_class]
    if len(images.class_names) > MOST_CLASSES:
        for name in names:
            numbers = per_class[name]
            yield f"{name}: {numbers.sum()} images, {numbers.min()} to {numbers.max()} of a class"
        return
    labels = [*images.class_names, "all"]
    columns = {name: [*per_class[name].tolist(), per_class[name].sum()] for name in names}
    wide = max(map(len, labels))
    yield " ".join([" " * wide, *names])
    for row, label in enumerate(labels):
        cells = [f"{columns[name][row]:>{len(name)}}" for name in names]
        yield " ".join([f"{label:<{wide}}", *cells])


def _copies(images: folder.Folder, kind_of: np.ndarray, kinds: str, names: Sequence[str]) -> str:
    """A phrase about files of the same content that differ in kind, "" if there are none.

    Args:
      images: the files.
      kind_of: the kind of each file, int [N].
      kinds: what the kinds are called.
      names: of the files, for the phrase.
    """
    if not images.whole:
        return ""
    contents = np.ascontiguousarray(images.contents["sha256"]).view("V32")[:, 0]
    _, first, content_of = np.unique(contents, return_index=True, return_inverse=True)
    differ = np.flatnonzero(kind_of[first][content_of] != kind_of)
    if not len(differ):
        return ""
    several = np.unique(content_of[differ])
    files = np.isin(content_of, several).sum()
    return (
        f"{len(several)} image{'s lie' if len(several) > 1 else ' lies'} in several {kinds} as "
        f"{files} files, such as {names[first[content_of[differ[0]]]]} and {names[differ[0]]}"
    )


def _copies_in_classes(images: folder.Folder) -> Iterator[str]:
    if copies := _copies(images, images.labels, "classes", images.names):
        yield f"warning: {copies}"


def _copies_in_splits(images: folder.Folder, parts: dict[str, np.ndarray]) -> Iterator[str]:
    split_of = np.zeros(len(images.names), np.int64)
    for number, name in enumerate(SPLITS):
        if name in parts:
            split_of[parts[name]] = number
    names = [f"{name} ({SPLITS[at]})" for name, at in zip(images.names, split_of, strict=True)]
    if copies := _copies(images, split_of, "splits", names):
        yield f"warning: {copies}; remove the copies or keep them together with a groups.csv"
