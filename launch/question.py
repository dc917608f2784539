"""An experiment that --vary and --on define on the command line. It does not import jax."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import experiments
from cnnjax import paths
from cnnjax.ablation.design import crossed, in_blocks
from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError
from launch.flags import parse_value

_MARK = "# Asked on the command line: written anew with every such question."
Factors = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Question:
    """An experiment that flags define.

    Attributes:
      experiment: the experiment.
      factors: {path: {name: level}} of the factors that vary.
      blocks: the same of the factors that define the blocks.
      fixed: fields that are set in all arms, since they win over those of weights to start from.
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
    """Returns the experiment that the flags define.

    Args:
      base: an experiment whose base configuration is used, None for the defaults.
      vary: `path=level,level,...`; several factors are crossed.
      on: the same for the blocks: `model.name=vgg_small,resnet20`.
      changes: fields that are changed in the base.
      seeds: the seeds; None for the default ones.

    Raises UserError for words that are not a path with levels, and for an experiment that defines
    levels, which needs a file.
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
            path: paths.field(path, value)
            for path, value in loaded.experiment.base.items()
            if path not in factors and path not in blocks
        }
    for path in factors:
        if path in blocks:
            raise UserError(f"--on: {path} is varied by --vary already.")
    changes = {path: paths.field(path, value) for path, value in changes.items()}
    for path in changes:
        if path in factors or path in blocks:
            raise UserError(f"--set {path}: is varied by --{'vary' if path in factors else 'on'}.")
    shared = {**shared, **changes}
    # The network of the weights wins over the base, but not over --set.
    fixed = dict(changes) if shared.get("transfer.init_from") else {}
    arms: dict[str, dict[str, Any]] = crossed(factors)
    if blocks:
        arms = in_blocks(crossed(blocks), arms)
    name = "_".join(path.rpartition(".")[2] for path in (*factors, *blocks))
    question = f"What does {_describe(factors)} do{f' on {_describe(blocks)}' if blocks else ''}?"
    arms = {arm: {**fixed, **overrides} for arm, overrides in arms.items()}
    experiment = Experiment(name=name, question=question, base=shared, arms=arms)
    if seeds is not None:
        experiment = dataclasses.replace(experiment, seeds=seeds)
    return Question(experiment, factors, blocks, fixed)


def _factors(flag: str, words: Sequence[str]) -> Factors:
    """{path: {short name: level}} of the words of a flag."""
    factors: Factors = {}
    for word in words:
        path, equals, levels = word.partition("=")
        parts = [part.strip() for part in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", levels)]
        if not equals or not path or len(parts) < (2 if flag == "--vary" else 1):
            least = "two levels" if flag == "--vary" else "a level"
            raise UserError(f"{flag} {word}: write path=level,level with at least {least}.")
        if path in factors:
            raise UserError(f"{flag} {path}: is given twice.")
        levels_by_text = {part: paths.field(path, parse_value(part)) for part in parts}
        # The last part of a path is enough for its name if that is unique.
        named = {_name(part.rpartition("/")[2]): level for part, level in levels_by_text.items()}
        if len(named) < len(parts):
            named = {_name(part): level for part, level in levels_by_text.items()}
        if len(named) < len(parts):
            raise UserError(f"{flag} {word}: a level is given twice.")
        factors[path] = named
    return factors


def _name(level: str) -> str:
    """A level as part of an arm's name; a dot would separate the block from the arm."""
    short = re.sub(r"[^A-Za-z0-9_=+-]+", "-", level.replace(".", "p")).strip("-")
    return short or "level"


def _describe(factors: Factors) -> str:
    return " and ".join(
        f"{path} ({', '.join(map(str, levels.values()))})" for path, levels in factors.items()
    )


def is_generated(content: bytes) -> bool:
    """Whether a file was written for --vary."""
    return _MARK.encode() in content


def _literal(values: Mapping[str, Any]) -> str:
    lines = [f"        {path!r}: {value!r}," for path, value in values.items()]
    return "\n".join(["{", *lines, "    }"])
