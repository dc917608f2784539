"""A study without the paths of the machine that it was run on, to be published.

Paths are taken out where they are values: of the configuration, of what commands give to their
flags, of errors. A folder is called DIR, another one DIR2; what lies in it keeps its name, so that
`folder:/home/me/flowers` becomes `folder:DIR/flowers` and two data sets stay two.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from cnnjax.ablation import claims
from cnnjax.ablation.results import Arm, Run, Study, lookup

_DATA = "folder:"
_FIELDS = ("data.name", "transfer.init_from")
"""The fields that may be paths."""
_FOLDERS = ("init_from", "flagfile", "output", "file")
"""The flags that are paths, besides those that have a name of their own."""
_TEXT = re.compile(
    r"(?P<quote>['\"])(?P<quoted>(?:folder:)?[/~][^\n]*?)(?P=quote)"
    r"|(?P<bare>folder:[^\s'\",;()\[\]]+|(?<![\w/.~-])(?!//)(?:~|/[^\s'\"/,:;()\[\]]+)"
    r"/[^\s'\",:;()\[\]]+)"
)
"""Paths in a text: in quotes, or of at least two parts."""


def study(given: Study) -> Study:
    """The study without paths, in its configurations, claims, commands, texts and errors."""
    paths = _Paths(given)
    return dataclasses.replace(
        given,
        about=paths.value(given.about),
        arms=tuple(_arm(arm, paths) for arm in given.arms),
        claims=tuple(
            (claims.read(paths.value(claims.write(claim)), given.metrics), late)
            for claim, late in given.claims
        ),
    )


def _arm(arm: Arm, paths: "_Paths") -> Arm:
    return dataclasses.replace(
        arm,
        overrides=paths.value(arm.overrides),
        config=paths.value(arm.config),
        levels=paths.value(arm.levels),
        runs=tuple(_run(run, paths) for run in arm.runs),
    )


def _run(run: Run, paths: "_Paths") -> Run:
    error, runtime = paths.text(run.error), paths.value(run.runtime)
    result = run.result.model_copy(update={"error": error, "runtime": runtime})
    return dataclasses.replace(run, error=error, config=paths.value(run.config), result=result)


class _Paths:
    """Names for the folders of a machine, the same one wherever a folder is met."""

    def __init__(self, given: Study):
        self._workdir = f"runs/{given.experiment.get('name') or given.workdir.name}"
        self._parents: dict[str, str] = {}
        places = given.workdir.absolute(), given.workdir.resolve()
        self._whole = {str(place): self._workdir for place in places}
        configs = [arm.config for arm in given.arms] + [run.config for run in given.runs]
        for value in (lookup(config, path) for config in configs for path in _FIELDS):
            if isinstance(value, str) and (path := value.removeprefix(_DATA)).count("/"):
                self._whole[path] = self._path(path)

    def value(self, value: Any, path: str = "") -> Any:
        """Plain values without paths; `path` is the field that they are the value of."""
        if isinstance(value, Mapping):
            return {key: self.value(own, str(key)) for key, own in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.value(own, path) for own in value)
        if not isinstance(value, str):
            return value
        if path == "command":
            return self.command(value)
        if path == "set":
            return self._setting(value)
        if value.startswith(_DATA):
            return _DATA + self._path(value.removeprefix(_DATA))
        if path.rpartition(".")[2] == "init_from":
            return self._path(value)
        return self.text(value)

    def command(self, command: str) -> str:
        """A command of a shell without paths, as fit for a shell as before."""
        try:
            words = shlex.split(command)
        except ValueError:
            return self.text(command)
        shown, flag = [], ""
        for word in words:
            name, equals, value = word.partition("=")
            dashes = len(name) - len(name.lstrip("-"))
            if 0 < dashes <= 2 and equals:
                shown.append(f"--{name[dashes:]}={self._flag(name[dashes:], value)}")
            elif flag and not dashes:
                shown.append(self._flag(flag, word))
            else:
                shown.append(word if dashes else self._setting(word))
            flag = name[dashes:] if 0 < dashes <= 2 and not equals else ""
        return shlex.join(shown)

    def text(self, text: str) -> str:
        """A text without paths."""
        for path in sorted(self._whole, key=len, reverse=True):
            text = text.replace(path, self._whole[path])

        def shown(match: re.Match[str]) -> str:
            quote, path = match["quote"] or "", match["quoted"] or match["bare"]
            kind = _DATA if path.startswith(_DATA) else ""
            return f"{quote}{kind}{self._path(path.removeprefix(kind))}{quote}"

        return _TEXT.sub(shown, text)

    def _flag(self, flag: str, value: str) -> str:
        """What a command gives to a flag."""
        match flag:
            case "workdir":
                return self._workdir
            case "data_dir":
                return "DIR"
            case "experiment" | "base":
                return value.rpartition("/")[2]
            case "set":
                return self._setting(value)
            case "vary" | "on":
                path, equals, levels = value.partition("=")
                shown = [str(self.value(level, path)) for level in levels.split(",")]
                return f"{path}{equals}{','.join(shown)}"
        whole = flag in _FOLDERS or value.startswith(("/", "~"))
        return self._path(value) if whole else str(self.value(value))

    def _setting(self, text: str) -> str:
        """`path=value`, its value as JSON or as it is, or any other word of a command."""
        path, equals, value = text.partition("=")
        if not equals:
            return self._flag("", text)
        try:
            given = json.loads(value)
        except (ValueError, RecursionError):
            return f"{path}={self.value(value, path)}"
        shown = self.value(given, path)
        return text if shown == given else f"{path}={json.dumps(shown)}"

    def _path(self, path: str) -> str:
        """A path by its last part, and a name for the folder that it lies in."""
        parent, slash, name = path.rstrip("/").rpartition("/")
        if parent in self._parents.values() or not (slash or name.startswith("~")):
            return path
        number = len(self._parents) + 1
        folder = self._parents.setdefault(parent, f"DIR{number if number > 1 else ''}")
        return folder if name.startswith("~") else f"{folder}/{name}"
