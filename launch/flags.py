"""The flags of the programs, and how a program starts and ends.

Each program accepts only the flags that it lists. A mistake ends with one or two lines on stderr
and exit code 2, without a traceback. The exit codes are:

0    all is done
1    a run failed, or has not ended
2    a mistake in the flags, the configuration or a file
70   a fault of cnnjax itself: one line says what, and which file has the traceback;
     with --pdb_post_mortem it is shown, in a debugger
75   stopped by SIGTERM or SIGHUP; the same command continues from there
130  interrupted with Ctrl-C; the same command continues from there
"""

import collections
import contextlib
import errno
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

from cnnjax import cache, files, machine, paths
from cnnjax.ablation.checks import MOST_SEEDS
from cnnjax.errors import Stopped, UserError, shown, unknown
from cnnjax.schema import MILLION
from launch import signals, terminal

FLAGS = flags.FLAGS
FAULT = 70  # EX_SOFTWARE of sysexits.h
_PATH_ERRORS = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES}
"""Errors of the system for a wrong path, which are the user's mistake wherever they occur."""

_STRINGS = {  # `program.flag` where it means something else in one program
    "experiment": "Name of an experiment, path of a file of your own, or 'help' for a list.",
    "arm": "The arm, a name from the experiment; several are separated by commas.",
    "arms": "Arms to run, separated by commas. All by default.",
    "seeds": "Seeds: 0,1,2 or 0-9 or a mixture. The experiment's own by default.",
    "workdir": "The folder that the study is written to, or read from.",
    "data_dir": "A folder with data sets; it is looked through and never written to.",
    "split": "The split: test, validation or train.",
    "step": "The checkpoint: a step, 'best' (on the validation split) or 'last'.",
    "init_from": "A folder of weights (config.json and checkpoints/), converted or of a run.",
    "source": "Whose layout the file has: torchvision, timm, keras or pytorch_cifar.",
    "file": "The weights: a file, or hub:OWNER/NAME.",
    "output": "Where the result is written.",
    "base": "With --vary: an experiment whose base configuration is taken.",
    "data": "The data set to prepare.",
    "model": "The network, or 'help' for a list.",
    "input": "Height,width,channels of the images. By default those of the published network.",
    "predict.input": "The images: a folder, or files separated by commas.",
    "predict.output": "The folder that pictures and predictions.json are written to.",
    "format": "How to show it: table, json or html (a page with a picture).",
    "networks": "Networks to time, separated by commas. All by default.",
    "contenders": "Contenders to time, separated by commas. By default those for the device.",
    "profile": "A folder for a trace of some steps, for TensorBoard or Perfetto.",
    "precision": "float32, bfloat16, or both separated by a comma.",
}
_NUMBERS = {
    "examples": "Training examples that a run may see at most: a quick look.",
    "max_minutes": "No run is started after so many minutes; the same command goes on.",
    "workers": "Processes that share the runs and the threads. By default measured.",
    "replicas": "Runs of one program that are trained together. By default measured.",
    "steps_per_call": "Steps in a call of the program. By default 1 on a CPU, else measured.",
    "devices": "Devices to compute on, the first of those there are. All by default.",
    "jobs": "With --commands: about how many commands of about equal cost.",
    "threads": "Threads to compute with on a CPU. All cores by default.",
    "rounds": "Rounds; in each all contenders are timed.",
    "batch_size": "Examples a step.",
    "num_classes": "Number of classes. By default that of the published network.",
}
_MAXIMA = {"examples": 10**12, "max_minutes": 10**7, "workers": 4096, "threads": 4096}
_LISTS = {
    "set": "A field and its value, path=value.",
    "vary": "A field and its levels, path=level,level: a question of your own; several cross.",
    "on": "With --vary: a field and the levels to ask it on, model.name=vgg_small,resnet20.",
}
_SWITCHES = {
    "tuning": "Not for use: the sweep starts the processes that tune with it.",
    "compare": "Put two sweeps side by side: --compare DIR1 DIR2.",
    "plan": "Say what would be run, and how long it would take, and stop.",
    "commands": "With --plan: a command for each group of runs that share a program.",
    "final": "Report on the test split, and count the look. Without it: on the validation split.",
}
_DEFAULTS = {"split": "test", "step": "last", "format": "table"}
_DEFAULT_NUMBERS = {"rounds": 5, "batch_size": 128}


PROGRAMS = {
    "train": "experiment arm seeds workdir set data_dir threads init_from replicas "
    "steps_per_call devices profile",
    "sweep": "experiment arms seeds workdir workers threads final set init_from data_dir worker "
    "base vary on plan commands jobs examples max_minutes tuning replicas "
    "steps_per_call devices profile",
    "time_arm": "experiment arms seeds workdir set data_dir tuning replicas steps_per_call devices",
    "evaluate": "workdir arm seeds split step init_from output experiment set data_dir threads",
    "predict": "workdir init_from input output step experiment set data_dir threads",
    "convert": "source model file output set",
    "report": "workdir final compare output",
    "publish": "output",
    "prepare": "data data_dir",
    "inspect": "model input num_classes set format output experiment arm data_dir",
    "benchmark": "workdir networks contenders rounds batch_size precision threads",
}
"""The flags of each program."""


def _define(program: str) -> None:
    """Defines the flags of a program."""
    for name in PROGRAMS[program].split():
        if name in _LISTS:
            flags.DEFINE_multi_string(name, [], _LISTS[name], short_name=None)
        elif name in _NUMBERS:
            maximum, default = _MAXIMA.get(name, MILLION), _DEFAULT_NUMBERS.get(name)
            flags.DEFINE_integer(name, default, _NUMBERS[name], lower_bound=1, upper_bound=maximum)
        elif name in _SWITCHES:
            flags.DEFINE_bool(name, False, _SWITCHES[name])
        elif name == "worker":
            flags.DEFINE_integer("worker", None, "Not for use: the sweep starts processes with it.")
        else:
            text = _STRINGS.get(f"{program}.{name}") or _STRINGS[name]
            flags.DEFINE_string(name, _DEFAULTS.get(name), text)
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])  # what --help lists


def start(program: str, main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Parses the flags of a program, calls its `main` with the other words of the command line, and
    exits."""
    _define(program)

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return list(FLAGS(argv))
        except flags.Error as error:
            sys.exit(_print_error(_explain(error)))

    def guarded(argv: Sequence[str]) -> int:
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.FATAL)  # orbax logs each save, and its errors twice
        sys.unraisablehook = _unraisable
        try:
            signals.exit_at_once()
            machine.keep_memory()
            cache.keep_compilations()
            if "threads" in FLAGS and FLAGS.threads is not None:
                machine.use_threads(FLAGS.threads)
            return main(argv[1:]) or 0
        except UserError as error:
            return _print_error(str(error))
        except Stopped as stopped:
            print(signals.message(stopped), file=sys.stderr)
            return signals.EXIT_CODE
        except KeyboardInterrupt:
            print("\ninterrupted; the same command goes on from here.", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            if error.errno in _PATH_ERRORS and error.filename is not None:
                return _print_error(f"{shown(str(error.filename))}: {error.strerror}.")
            return _report_fault(error)
        except Exception as error:
            if FLAGS.pdb_post_mortem:
                raise
            return _report_fault(error)

    terminal.guard()
    app.run(guarded, flags_parser=parse)
    raise AssertionError("app.run does not return")


def _explain(error: flags.Error) -> str:
    """The error of a wrong flag, with what is allowed or the programs that have it."""
    text = str(error).removeprefix("ERROR:: ")
    if isinstance(error, flags.UnrecognizedFlagError):
        name, program = error.flagname, Path(sys.argv[0]).stem
        public = {other: words for other, words in PROGRAMS.items() if other != "time_arm"}
        takers = [f"launch.{other}" for other, words in public.items() if name in words.split()]
        if takers:
            verb = "takes it" if len(takers) == 1 else "take it"
            return f"--{name}: is not a flag of launch.{program}; {', '.join(takers)} {verb}."
    illegal = re.match(r"flag --(\w+)=(.*?): ", text, re.DOTALL)
    if illegal and illegal[1] in _NUMBERS:
        name, value = illegal.groups()
        allowed = f"a whole number, 1 to {_MAXIMA.get(name, MILLION):,}"
        return f"--{name}: {shown(value)} is not valid; allowed: {allowed}."
    return f"{text} See --help."


def require(name: str) -> str:
    """The value of a required flag. Raises UserError."""
    value = getattr(FLAGS, name)
    if not value:
        raise UserError(f"--{name}: is missing. See --help.")
    return str(value)


def path(name: str) -> Path:
    """The path in a required flag. Raises UserError."""
    return paths.parse(f"--{name}", require(name))


def folder(name: str) -> Path:
    """The folder in a required flag, created if it does not exist. Raises UserError where it cannot
    be created."""
    directory = path(name).absolute()
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--{name}: {directory} is a file; name a folder.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{name}: {directory} cannot be made ({error.strerror}).") from None
    return directory


def names(flag: str, text: str | None, allowed: Collection[str], where: str = "") -> list[str]:
    """The names in the text of a flag, separated by commas; all that are `allowed` by default.

    Raises UserError for an unknown name, called that of `where` or of the flag, and for one that is
    given twice."""
    chosen = [part.strip() for part in text.split(",")] if text else list(allowed)
    for name in chosen:
        if name not in allowed:
            raise unknown(where or f"--{flag}", name, allowed)
        if chosen.count(name) > 1:
            raise UserError(f"--{flag}: {name!r} is given twice.")
    return chosen


def no_arguments(arguments: Sequence[str]) -> None:
    """Raises UserError if there are words on the command line that belong to no flag."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: belongs to no flag. See --help.")


def changes(arguments: Sequence[str]) -> dict[str, Any]:
    """The changes of --set, and of `path=value` words among the arguments: {path: value}."""
    values: dict[str, Any] = {}
    for word in [*(FLAGS["set"].value or []), *arguments]:
        path, equals, text = word.partition("=")
        if not equals or "" in path.split("."):
            raise UserError(f"--set {word}: write path=value, training.epochs=5 for example.")
        if path in values:
            raise UserError(f"--set {path}: is given twice.")
        values[path] = parse_value(text, path)
    return values


def parse_value(text: str, path: str | None = None) -> Any:
    """Parses a value: as JSON if it is JSON (numbers, true, null, [8, 8]), else it is the text. A
    list of tables for the field `path` has to be JSON: no field takes a text like it.

    Raises UserError for JSON that cannot be used, such as 1e999."""
    try:
        return files.parse_json(text)
    except json.JSONDecodeError as error:
        if path is not None and re.match(r"\[?\s*\{", text):
            raise UserError(
                f"--set {path}: {shown(text)} cannot be read: {error.msg}; names and text "
                "are written in double quotes, and numbers are finite.",
                path=path,
            ) from None
        return text
    except ValueError as error:
        raise UserError(f"{shown(text)}: is not valid: {error}.") from None


def seeds(text: str) -> list[int]:
    """Parses seeds: `0,1,2`, `0-9` or a mixture. Raises UserError for anything else."""
    parsed: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if not match:
            raise UserError(
                f"--seeds: {shown(text)} is not valid; write 0,1,2 or 0-9, none above 999999999."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"--seeds: {part.strip()} is reversed; write {match[2]}-{match[1]}.")
        if last - first >= MOST_SEEDS:
            raise UserError(f"--seeds: {part.strip()}: are more than {MOST_SEEDS:,} seeds.")
        parsed += range(first, last + 1)
        if len(parsed) > MOST_SEEDS:
            raise UserError(f"--seeds: are more than {MOST_SEEDS:,} seeds.")
    repeated = sorted(seed for seed, count in collections.Counter(parsed).items() if count > 1)
    if repeated:
        raise UserError(f"--seeds: {text!r}: seed {repeated[0]} is given twice.")
    return parsed


def _unraisable(event: Any) -> None:
    """Ignores errors of orbax in further reads of a damaged checkpoint, after the first error has
    been reported."""
    code = getattr(event.object, "cr_code", None)
    of_orbax = code is not None and "/orbax/" in code.co_filename.replace(os.sep, "/")
    if not of_orbax and "Event loop is closed" not in str(event.exc_value):
        sys.__unraisablehook__(event)


def _report_fault(error: Exception) -> int:
    """Prints one line about a fault of cnnjax, and writes the whole traceback to a file."""
    text = "".join(traceback.format_exception(error))
    line = " ".join(str(error).split())[:300]
    fault = f"internal: {type(error).__name__}{f': {line}' if line else ''}"
    path = _write_traceback(text)
    if path is None:
        print(text, file=sys.stderr)
    _print_error(f"{fault}; the whole traceback is {f'in {path}' if path else 'above'}")
    return FAULT


def _write_traceback(text: str) -> Path | None:
    """Writes a traceback to a file: in the logs of the workdir, else in the cache, else among the
    temporary files. Returns its path, None if none can be written."""
    name = f"traceback-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    workdir = FLAGS.workdir if "workdir" in FLAGS else None
    logs = Path(workdir or "", "logs")
    folders = [logs] if workdir and logs.parent.is_dir() and not logs.is_symlink() else []
    with contextlib.suppress(UserError):  # there may be no home
        folders.append(cache.root() / "tracebacks")
    for folder in (*folders, Path(tempfile.gettempdir())):
        with contextlib.suppress(UserError):
            files.write_text(folder / name, text)
            return folder / name
    return None


def _print_error(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2
