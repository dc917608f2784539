"""A few lines about folders of images and their splits, to read before training."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cnnjax import config as configs
from cnnjax.data import content, folder, folder_targets, pictures, source, split

MAX_CLASSES = 12
"""For more classes only the smallest and the largest count are given."""


def describe(data: Iterable[configs.Data], data_dir: str | None = None) -> list[str]:
    """Lines about the folders of images among `data`, each folder and each way to split it once;
    of other data sets only which examples `data.skip_bad` leaves out.

    They give the classes and their counts in each split, how the splits are drawn, what is ignored,
    left out or converted, and warnings: of copies (files with the same content) in several classes
    or splits, and of classes that are missing in a split.

    Raises UserError, as `folder.read`, `folder_targets.read`, `source.find` and `split.parts` do.
    """
    draws_of: dict[tuple[str, bool], dict[tuple[float, int | None], None]] = {}
    others = {}
    for config in data:
        if config.name.startswith(folder.PREFIX):
            draw = (config.validation_fraction, config.split_seed)
            draws_of.setdefault((config.name, config.skip_bad), {})[draw] = None
        elif config.skip_bad:
            others[config.name] = config
    lines = [
        f"{name}: {line}"
        for name, config in others.items()
        for line in left_out(source.find(name, data_dir, config).left_out)
    ]
    for (name, skip_bad), draws in draws_of.items():
        images = folder_targets.read(name, skip_bad)
        lines.append(f"{name}: {_summary(images)}")
        details = [
            *left_out(images.left_out),
            *_changes(images),
            *_copies(images, images.labels, "classes", images.names),
        ]
        for fraction, seed in draws:
            details += _splits(images, fraction, seed)
        lines += [f"  {line}" for line in details]
    return lines


def _summary(images: folder.Folder) -> str:
    """`30 grey images 6x8 with masks of 11 classes`."""
    size = f"{images.size[0]}x{images.size[1]}" if images.size else "of several sizes"
    colour = "grey" if images.channels == 1 else "colour"
    count, targets = len(images.class_names), []
    if images.masks:
        targets.append(f"masks of {len(images.mask_names)} classes")
    if "box" in images.targets:
        targets.append(f"boxes of {count} class{'es' if count > 1 else ''}")
    which = f"with {' and '.join(targets)}" if targets else f"in {count} classes"
    return f"{len(images.names)} {colour} images {size} {which}"


def left_out(reasons: Sequence[str]) -> Iterator[str]:
    """How many examples `data.skip_bad` leaves out, and why each of them."""
    if reasons:
        count = f"{len(reasons)} example{'s' if len(reasons) > 1 else ''}"
        yield f"note: {count} left out (data.skip_bad):"
        yield from (f"  {reason}" for reason in reasons)


def _changes(images: folder.Folder) -> Iterator[str]:
    """Which files are ignored, and which are converted."""
    if images.ignored:
        yield f"ignored: {folder.format_counts(images.ignored)}"
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
    for affected, text in (
        (contents["alpha"].sum(), "transparency, which is dropped"),
        (sixteen, "more than 8 bits: the upper 8 of 16 are kept"),
        (contents["frames"].sum(), "several frames or pages, of which the first is kept"),
    ):
        if affected:
            yield f"{affected} of {count} have {text}"
    if not images.hashed:
        limit = content.MAX_BYTES // 2**30
        yield f"the files are larger than {limit} GiB together; copies were not looked for"


def _splits(images: folder.Folder, fraction: float, seed: int | None) -> Iterator[str]:
    counts = {name: part.stop - part.start for name, part in images.splits.items()}
    drawn = split.parts(counts, fraction, seed, images.groups)
    parts = {
        name: images.splits[origin].start + positions for name, (origin, positions) in drawn.items()
    }
    yield _how_drawn(images, fraction, seed, set(parts) - set(counts))
    per_class = {
        name: np.bincount(images.labels[positions], minlength=len(images.class_names))
        for name, positions in parts.items()
    }
    yield from _counts(images, per_class)
    for name, counts_of in per_class.items():
        missing = [images.class_names[label] for label in np.flatnonzero(counts_of == 0).tolist()]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            yield f"warning: {name} has no images of {', '.join(missing[:5])}{more}"
    split_of = np.empty(len(images.names), "U10")
    for name, positions in parts.items():
        split_of[positions] = name
    names = [f"{file} ({name})" for file, name in zip(images.names, split_of, strict=True)]
    advice = "; remove the copies or keep them together with a groups.csv"
    yield from _copies(images, split_of, "splits", names, advice)


def _how_drawn(images: folder.Folder, fraction: float, seed: int | None, drawn: set[str]) -> str:
    """How the splits are drawn."""
    if not drawn:
        return "splits: the folder's own"
    shares = [f"{100 * split.TEST_SHARE:g}% of the images for test"] if "test" in drawn else []
    if "validation" in drawn:
        rest = "the rest" if shares else "the training images"
        shares.append(f"{100 * fraction:g}% of {rest} for validation")
    which = "a fixed draw" if seed is None else f"draw {seed} (data.split_seed)"
    groups = ""
    if images.groups is not None:
        number = len(np.unique(images.groups))
        groups = f", by the {number} groups of groups.csv and so approximately"
    return f"splits: {' and '.join(shares)}, {which} for all arms and seeds{groups}"


def _counts(images: folder.Folder, per_class: dict[str, np.ndarray]) -> Iterator[str]:
    """A table of the images of each class in each split."""
    if len(images.class_names) > MAX_CLASSES:
        for name, counts in per_class.items():
            yield f"{name}: {counts.sum()} images, {counts.min()} to {counts.max()} of a class"
        return
    labels = [*images.class_names, "all"]
    columns = {name: [*counts.tolist(), counts.sum()] for name, counts in per_class.items()}
    width = max(map(len, labels))
    yield " ".join([" " * width, *columns])
    for row, label in enumerate(labels):
        cells = [f"{column[row]:>{len(name)}}" for name, column in columns.items()]
        yield " ".join([f"{label:<{width}}", *cells])


def _copies(
    images: folder.Folder, kind_of: np.ndarray, kinds: str, names: Sequence[str], advice: str = ""
) -> Iterator[str]:
    """A warning of files with the same content but of different kinds, if there are any.

    Args:
      images: the files.
      kind_of: the class or split of each file, [N].
      kinds: "classes" or "splits".
      names: of the files, for the warning.
      advice: how it ends.
    """
    if not images.hashed:
        return
    contents = np.ascontiguousarray(images.contents["sha256"]).view("V32")[:, 0]
    _, first, content_of = np.unique(contents, return_index=True, return_inverse=True)
    differ = np.flatnonzero(kind_of[first][content_of] != kind_of)
    if not len(differ):
        return
    several = np.unique(content_of[differ])
    files = np.isin(content_of, several).sum()
    yield (
        f"warning: {len(several)} image{'s lie' if len(several) > 1 else ' lies'} in several "
        f"{kinds} as {files} files, such as {names[first[content_of[differ[0]]]]} and "
        f"{names[differ[0]]}{advice}"
    )
