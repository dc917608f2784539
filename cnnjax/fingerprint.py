"""What a run was trained on, as plain values that can be kept and compared. No jax.

A fingerprint is a JSON object:

    name        as in `data.name`
    version     of a TFDS set, with its config; "" elsewhere
    class_names the names in the order of the labels (of many classes their number and a digest)
    examples    {split of the source: number of examples}
    content     a digest of the bytes of all files, or of their names and sizes where there are too
                many bytes to read; says which
    division    the settings that the splits were drawn with
    splits      {split as used: number of examples and a digest of which they are}

Two fingerprints of one name are comparable; those of different names are different data by intent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnjax import cache

MOST_NAMES = 20
_OF_THE_SOURCE = ("version", "class_names", "examples", "content")

Fingerprint = Mapping[str, Any]


def names(class_names: Sequence[str]) -> str:
    """The names of classes as they stand in a fingerprint."""
    if len(class_names) <= MOST_NAMES:
        return ", ".join(class_names)
    return f"{len(class_names)} names, digest {cache.digest(list(class_names))}"


def differences(before: Any, after: Any) -> list[str]:
    """In what two fingerprints of the same data set differ, a phrase for each field; nothing where
    they are of different sets, or one of them is none. The splits count only where both were drawn
    with the same settings."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    if before.get("name") != after.get("name"):
        return []
    alike = before.get("division") == after.get("division")
    return [
        phrase
        for field in (*_OF_THE_SOURCE, *(["splits"] if alike else []))
        for phrase in _changes(field, before.get(field), after.get(field))
    ]


def changed(known: Iterable[Any], current: Iterable[Fingerprint]) -> str:
    """What the first of the `current` fingerprints that differs from a known one of its name says,
    in half a sentence; "" where none differs."""
    known = list(known)
    for after in current:
        for before in known:
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
