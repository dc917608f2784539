"""A question asked on the command line: factors to vary, and what to vary them on. No jax."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import experiments
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError
from launch.flags import value

_MARK = "# Asked on the command line: written anew with every such question."
Factors = dict[str, dict[str, Any]]


def ask(base: str | None, vary: Sequence[str], on: Sequence[str]) -> tuple[Experiment, str]:
    """The experiment that the flags ask for, and the file that defines it.

    Args:
      base: an experiment whose base configuration is taken, None for the defaults.
      vary: `path=level,level,...`; several are crossed.
      on: the same, for the blocks: `model.name=vgg_small,resnet20`.

    Raises UserError for what is no path with levels, and for an experiment with levels of its own,
    which a file of its own has to define.
    """
    factors = _factors("--vary", vary)
    blocks = _factors("--on", on)
    shared: Mapping[str, Any] = {}
    if base is not None:
        loaded = experiments.load(base, flag="--base")
        if any(loaded.levels.values()):
            raise UserError(
                f"--base: {base} has levels of its own; write an experiment file that takes them."
            )
        shared = {
            path: given
            for path, given in loaded.experiment.base.items()
            if path not in factors and path not in blocks
        }
    for path in factors:
        if path in blocks:
            raise UserError(f"--on: {path} is varied by --vary already.")
    arms: dict[str, dict[str, Any]] = crossed(factors)
    if blocks:
        arms = in_blocks(crossed(blocks), arms)
    name = "_".join(path.rpartition(".")[2] for path in (*factors, *blocks))
    question = f"What does {_said(factors)} do{f' on {_said(blocks)}' if blocks else ''}?"
    experiment = Experiment(name=name, question=question, base=shared, arms=arms)
    return experiment, _text(experiment, factors, blocks)


def _factors(flag: str, words: Sequence[str]) -> Factors:
    """{path: {short name: level}}."""
    found: Factors = {}
    for word in words:
        path, equals, levels = word.partition("=")
        parts = [part.strip() for part in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", levels)]
        if not equals or not path or len(parts) < (2 if flag == "--vary" else 1):
            least = "two levels" if flag == "--vary" else "a level"
            raise UserError(f"{flag} {word}: write path=level,level with at least {least}.")
        if path in found:
            raise UserError(f"{flag} {path}: is given twice.")
        named = {_name(part): value(part) for part in parts}
        if len(named) < len(parts):
            raise UserError(f"{flag} {word}: a level is given twice.")
        found[path] = named
    return found


def _name(level: str) -> str:
    """A level as part of a folder's name; a dot would begin an arm."""
    short = re.sub(r"[^A-Za-z0-9_=+-]+", "-", level.replace(".", "p")).strip("-")
    return short or "level"


def _said(factors: Factors) -> str:
    return " and ".join(
        f"{path} ({', '.join(str(level) for level in levels.values())})"
        for path, levels in factors.items()
    )


def _text(experiment: Experiment, factors: Factors, blocks: Factors) -> str:
    arms = f"crossed({_literal(factors)})"
    if blocks:
        arms = f"in_blocks(crossed({_literal(blocks)}), {arms})"
    return f'''"""{experiment.question}"""

{_MARK}
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name={experiment.name!r},
    question={experiment.question!r},
    base={_literal(dict(experiment.base))},
    arms={arms},
)
'''


def asked(content: bytes) -> bool:
    """Whether a file is one that a question on the command line stands for."""
    return _MARK.encode() in content


def _literal(values: Mapping[str, Any]) -> str:
    lines = [f"        {path!r}: {given!r}," for path, given in values.items()]
    return "\n".join(["{", *lines, "    }"])
