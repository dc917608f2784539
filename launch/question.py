"""A question asked on the command line: factors to vary, and what to vary them on. No jax."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import experiments
from cnnjax import paths
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError
from launch.flags import value

_MARK = "# Asked on the command line: written anew with every such question."
Factors = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Question:
    """An experiment that flags ask for.

    Attributes:
      experiment: the experiment.
      factors: what varies.
      blocks: what it is varied on.
      fixed: what is set in all arms, over what weights to start from bring.
    """

    experiment: Experiment
    factors: Factors
    blocks: Factors
    fixed: Mapping[str, Any]

    def text(self, seeds: Sequence[int]) -> str:
        """The file that defines the experiment, with these seeds."""
        experiment = self.experiment
        arms = f"crossed({_literal(self.factors)})"
        if self.blocks:
            arms = f"in_blocks(crossed({_literal(self.blocks)}), {arms})"
        fixed = ""
        if self.fixed:
            fixed = f"\nSET = {_literal(self.fixed)}\n"
            arms = f"{{name: {{**SET, **own}} for name, own in {arms}.items()}}"
        return f'''"""{experiment.question}"""

{_MARK}
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment
{fixed}
EXPERIMENT = Experiment(
    name={experiment.name!r},
    question={experiment.question!r},
    base={_literal(experiment.base)},
    arms={arms},
    seeds={tuple(seeds)!r},
)
'''


def ask(
    base: str | None,
    vary: Sequence[str],
    on: Sequence[str],
    *,
    changes: Mapping[str, Any],
    seeds: Sequence[int] | None,
) -> Question:
    """The experiment that the flags ask for.

    Args:
      base: an experiment whose base configuration is taken, None for the defaults.
      vary: `path=level,level,...`; several are crossed.
      on: the same, for the blocks: `model.name=vgg_small,resnet20`.
      changes: what is set in the base besides.
      seeds: the seeds; None for the usual ones.

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
            path: paths.field(path, given)
            for path, given in loaded.experiment.base.items()
            if path not in factors and path not in blocks
        }
    for path in factors:
        if path in blocks:
            raise UserError(f"--on: {path} is varied by --vary already.")
    changes = {path: paths.field(path, given) for path, given in changes.items()}
    for path in changes:
        if path in factors or path in blocks:
            raise UserError(f"--set {path}: is varied by --{'vary' if path in factors else 'on'}.")
    shared = {**shared, **changes}
    # Weights bring their network over the base's, but not over what --set says.
    fixed = dict(changes) if shared.get("transfer.init_from") else {}
    arms: dict[str, dict[str, Any]] = crossed(factors)
    if blocks:
        arms = in_blocks(crossed(blocks), arms)
    name = "_".join(path.rpartition(".")[2] for path in (*factors, *blocks))
    question = f"What does {_said(factors)} do{f' on {_said(blocks)}' if blocks else ''}?"
    arms = {arm: {**fixed, **own} for arm, own in arms.items()}
    made = Experiment(name=name, question=question, base=shared, arms=arms)
    if seeds is not None:
        made = dataclasses.replace(made, seeds=seeds)
    return Question(made, factors, blocks, fixed)


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
        given = {part: paths.field(path, value(part)) for part in parts}
        named = {_name(part.rpartition("/")[2]): level for part, level in given.items()}
        if len(named) < len(parts):  # of paths the last part, where that is enough
            named = {_name(part): level for part, level in given.items()}
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


def asked(content: bytes) -> bool:
    """Whether a file is one that a question on the command line stands for."""
    return _MARK.encode() in content


def _literal(values: Mapping[str, Any]) -> str:
    lines = [f"        {path!r}: {given!r}," for path, given in values.items()]
    return "\n".join(["{", *lines, "    }"])
