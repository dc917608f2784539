"""A study without the paths of the machine that it was run on, for publication.

Paths are replaced in values: of the configuration, of the flags of commands, of errors. A folder is
called DIR, the next one DIR2; its content keeps its name, so that `folder:/home/me/flowers` becomes
`folder:DIR/flowers` and two data sets stay two.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from cnnjax import paths
from cnnjax.ablation import claims
from cnnjax.ablation.results import Arm, Run, Study, lookup

_PATH_FLAGS = ("init_from", "flagfile", "output", "file")
"""The flags that are paths, besides those that `_flag` treats in another way."""
_PATH_IN_TEXT = re.compile(
    r"(?P<quote>['\"])(?P<quoted>(?:folder:)?[/~][^\n]*?)(?P=quote)"
    r"|(?P<bare>folder:[^\s'\",;()\[\]]+|(?<![\w/.~-])(?!//)(?:~|/[^\s'\"/,:;()\[\]]+)"
    r"/[^\s'\",:;()\[\]]+)"
)
"""Paths in a text: in quotes, or with at least two parts."""


def anonymize(study: Study) -> Study:
    """The study, as `published`, without paths in its configurations, claims, commands, texts and
    errors."""
    folders = _FolderNames(study)
    return dataclasses.replace(
        study,
        about=folders.value(study.about),
        arms=tuple(_anonymize_arm(arm, folders) for arm in study.arms),
        claims=tuple(
            (claims.from_dict(folders.value(claims.to_dict(claim)), study.metrics), late)
            for claim, late in study.claims
        ),
        published=True,
    )


def _anonymize_arm(arm: Arm, folders: "_FolderNames") -> Arm:
    return dataclasses.replace(
        arm,
        overrides=folders.value(arm.overrides),
        config=folders.value(arm.config),
        levels=folders.value(arm.levels),
        runs=tuple(_anonymize_run(run, folders) for run in arm.runs),
    )


def _anonymize_run(run: Run, folders: "_FolderNames") -> Run:
    error, runtime = folders.text(run.error), folders.value(run.runtime)
    result = run.result.model_copy(update={"error": error, "runtime": runtime})
    return dataclasses.replace(run, error=error, config=folders.value(run.config), result=result)


class _FolderNames:
    """Replaces paths by names; a folder has the same name wherever it occurs."""

    def __init__(self, study: Study):
        self._workdir = f"runs/{study.experiment.get('name') or study.workdir.name}"
        self._parents: dict[str, str] = {}
        workdirs = study.workdir.absolute(), study.workdir.resolve()
        self._known = {str(path): self._workdir for path in workdirs}
        configs = [arm.config for arm in study.arms] + [run.config for run in study.runs]
        for value in (lookup(config, field) for config in configs for field in paths.FIELDS):
            if isinstance(value, str) and (path := value.removeprefix(paths.FOLDER)).count("/"):
                self._known[path] = self._path(path)

    def value(self, value: Any, field: str = "") -> Any:
        """Plain values without paths; `field` is the name of the field that has this value."""
        if isinstance(value, Mapping):
            return {key: self.value(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.value(item, field) for item in value)
        if not isinstance(value, str):
            return value
        if field == "command":
            return self.command(value)
        if field == "set":
            return self._setting(value)
        if value.startswith(paths.FOLDER):
            return paths.FOLDER + self._path(value.removeprefix(paths.FOLDER))
        if field.rpartition(".")[2] == "init_from":
            return self._path(value)
        return self.text(value)

    def command(self, command: str) -> str:
        """A shell command without paths; it remains a valid shell command."""
        try:
            words = shlex.split(command)
        except ValueError:
            return self.text(command)
        parts, flag = [], ""
        for word in words:
            name, equals, value = word.partition("=")
            dashes = len(name) - len(name.lstrip("-"))
            if 0 < dashes <= 2 and equals:
                parts.append(f"--{name[dashes:]}={self._flag(name[dashes:], value)}")
            elif flag and not dashes:
                parts.append(self._flag(flag, word))
            else:
                parts.append(word if dashes else self._setting(word))
            flag = name[dashes:] if 0 < dashes <= 2 and not equals else ""
        return shlex.join(parts)

    def text(self, text: str) -> str:
        """A text without paths."""
        for path in sorted(self._known, key=len, reverse=True):
            text = text.replace(path, self._known[path])

        def replace(match: re.Match[str]) -> str:
            quote, path = match["quote"] or "", match["quoted"] or match["bare"]
            kind = paths.FOLDER if path.startswith(paths.FOLDER) else ""
            return f"{quote}{kind}{self._path(path.removeprefix(kind))}{quote}"

        return _PATH_IN_TEXT.sub(replace, text)

    def _flag(self, flag: str, value: str) -> str:
        """The value of a command's flag without paths."""
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
                values = [str(self.value(level, path)) for level in levels.split(",")]
                return f"{path}{equals}{','.join(values)}"
        is_path = flag in _PATH_FLAGS or value.startswith(("/", "~"))
        return self._path(value) if is_path else str(self.value(value))

    def _setting(self, text: str) -> str:
        """`path=value`, with the value as JSON or plain text, or any other word of a command."""
        path, equals, value = text.partition("=")
        if not equals:
            return self._flag("", text)
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return f"{path}={self.value(value, path)}"
        replaced = self.value(parsed, path)
        return text if replaced == parsed else f"{path}={json.dumps(replaced)}"

    def _path(self, path: str) -> str:
        """A path as its last part in a folder that is replaced by a name."""
        parent, slash, name = path.rstrip("/").rpartition("/")
        if parent in self._parents.values() or not (slash or name.startswith("~")):
            return path
        number = len(self._parents) + 1
        folder = self._parents.setdefault(parent, f"DIR{number if number > 1 else ''}")
        return folder if name.startswith("~") else f"{folder}/{name}"
