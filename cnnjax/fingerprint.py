"""Describes the data of a run as plain values that can be stored and compared. No jax.

A fingerprint is a JSON object:

    name        as in `data.name`
    version     of a TFDS set, with its config; "" elsewhere
    class_names the names in the order of the labels (their number and a digest if there are many)
    examples    {split of the source: number of examples}
    content     a digest of the bytes of all files, or of their names and sizes if they are too
                large to read; its prefix says which
    mask_names  as class_names, of the classes of pixels; absent without masks
    left_out    the number of examples that data.skip_bad leaves out and a digest of the reasons;
                absent if there are none
    division    the settings that the splits were drawn with
    splits      {split as used: number of examples and a digest of their positions}

Only fingerprints with the same name are compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnjax import cache

MAX_NAMES = 20
_SOURCE_FIELDS = ("version", "class_names", "examples", "content", "mask_names", "left_out")

Fingerprint = Mapping[str, Any]


def names(class_names: Sequence[str]) -> str:
    """The names of classes in a fingerprint."""
    if len(class_names) <= MAX_NAMES:
        return ", ".join(class_names)
    return f"{len(class_names)} names, digest {cache.digest(list(class_names))}"


def differences(before: Any, after: Any) -> list[str]:
    """How two fingerprints of one data set differ, a phrase for each field. Empty if they are of
    different data sets, or one is not a fingerprint. Splits are compared only if both were drawn
    with the same settings."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    if before.get("name") != after.get("name"):
        return []
    same_division = before.get("division") == after.get("division")
    return [
        phrase
        for field in (*_SOURCE_FIELDS, *(["splits"] if same_division else []))
        for phrase in _changes(field, before.get(field), after.get(field))
    ]


def changed(stored: Iterable[Any], current: Iterable[Fingerprint]) -> str:
    """The differences of the first `current` fingerprint that differs from a `stored` one of its
    name, as a phrase; "" if none differs."""
    stored = list(stored)
    for after in current:
        for before in stored:
            if phrases := differences(before, after):
                return f"{after['name']}: {'; '.join(phrases)}"
    return ""


def _changes(field: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            phrase
            for key in dict.fromkeys([*before, *after])
            for phrase in _changes(f"{field}.{key}", before.get(key), after.get(key))
        ]
    return [] if before == after else [f"{field} {before!r} -> {after!r}"]
