"""`groups.csv`: which images of a folder belong together, such as those of one patient or burst."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax import files
from cnnjax.errors import UserError

FILE = "groups.csv"


def read(path: Path, names: Sequence[str], splits: Mapping[str, slice]) -> np.ndarray | None:
    """The group of each image, int [N], numbered in the order of the groups' names; None where
    there is no such file.

    Args:
      path: of the table, with the columns `file` and `group`. More lines and columns do no harm.
      names: of the images, as in `file`.
      splits: {split that the folder has: its part of `names`}.

    Raises UserError for a table that is damaged, names no group for an image or two, or puts one
    group in two of the `splits`.
    """
    if not os.path.lexists(path):
        return None
    table = _table(path)
    for name in names:
        if name not in table:
            raise UserError(f"{path}: names no group for {name!r}; every image needs one.")
    _, groups = np.unique([table[name] for name in names], return_inverse=True)
    split_of: dict[str, str] = {}
    for split, part in splits.items():
        for name in names[part]:
            other = split_of.setdefault(table[name], split)
            if other != split:
                raise UserError(
                    f"{path}: the group {table[name]!r} is in {other} and in {split}; {name!r} is "
                    "one of its images."
                )
    return groups


def _table(path: Path) -> dict[str, str]:
    """{file: group}."""
    table: dict[str, str] = {}
    with files.open_regular(path) as file:
        try:
            rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            if not {"file", "group"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: needs a first line with the columns file,group.")
            for row in rows:
                name, group = row["file"], (row["group"] or "").strip()
                if not name or not group:
                    raise UserError(f"{path}: line {rows.line_num} lacks a file or a group.")
                if table.setdefault(name, group) != group:
                    raise UserError(f"{path}: line {rows.line_num}: {name!r} has two groups.")
        except (csv.Error, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: is no table in UTF-8 ({files.reason(error)}).") from None
    return table
