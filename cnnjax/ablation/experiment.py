"""Experiments as data: a question, a base configuration, arms, seeds. No jax."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import catalog, metric, paths
from cnnjax import config as configs
from cnnjax.ablation import checks
from cnnjax.ablation.claims import Claim, block_of
from cnnjax.config import PREPROCESSING, Levels, ResolvedConfig, RunConfig, flat, override, resolve
from cnnjax.errors import UserError, unknown
from cnnjax.metric import Metric

Overrides = Mapping[str, Any]
TEXTS = ("question", "lecture", "published", "expected", "notes", "prerequisite")
"""The attributes of an experiment that are for its readers."""


@dataclasses.dataclass(frozen=True)
class Tune:
    """Settings that each arm chooses for itself before the comparison.

    Attributes:
      grid: dotted path -> the values to try, in order; several paths are crossed.
      seeds: the seeds to try them with; none of those of the comparison.
    """

    grid: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (1000, 1001)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One question and how it is tested.

    Attributes:
      name: the name of the experiment; a workdir holds the results of one experiment.
      question: the question in one sentence, the report's title.
      arms: arm name -> overrides of the base, in the report's order. The first arm of a block is
        its baseline. A name `block.arm` puts the arm into a block; names without a dot are all in
        one block.
      base: dotted paths and values that all arms share.
      seeds: the seeds of every arm.
      claims: the claims, made before anything is run; see `cnnjax.ablation.claims`.
      probes: what else is measured in each run, names in `cnnjax.analysis.probes`.
      tune: what each arm chooses for itself on the validation split; see `cnnjax.ablation.tuning`.
      chosen: arm name -> the values chosen by tuning, for arms that have been tuned.
      lecture: the passage of the lecture (docs/lecture.md) that the question comes from.
      published: published results, with the source.
      expected: the direction expected before anything was run.
      notes: what the reader of the results should know.
      prerequisite: the command that trains the weights its arms start from.
    """

    name: str
    question: str
    arms: Mapping[str, Overrides]
    base: Overrides = dataclasses.field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)
    claims: Sequence[Claim] = ()
    probes: Sequence[str] = ()
    tune: Tune | None = None
    chosen: Mapping[str, Overrides] = dataclasses.field(default_factory=dict)
    lecture: str = ""
    published: str = ""
    expected: str = ""
    notes: str = ""
    prerequisite: str = ""

    def __post_init__(self) -> None:
        checks.name(self.name)
        where = f"experiment {self.name}"
        for text in TEXTS:
            if not isinstance(getattr(self, text), str):
                raise UserError(f"{where}: {text}: {getattr(self, text)!r} is not text.")
        if not isinstance(self.arms, Mapping) or not self.arms:
            raise UserError(f"{where}: arms: must be a dict, name -> overrides, and not empty.")
        for arm in self.arms:
            checks.arm_name(where, arm)
        arms = {
            arm: checks.plain_overrides(f"{where}: arm {arm!r}", overrides)
            for arm, overrides in self.arms.items()
        }
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "base", checks.plain_overrides(f"{where}: base", self.base))
        checks.distinct(where, {arm: {**self.base, **overrides} for arm, overrides in arms.items()})
        object.__setattr__(self, "seeds", checks.seeds(where, self.seeds))
        object.__setattr__(self, "claims", checks.claims(where, self.claims))
        object.__setattr__(self, "probes", checks.probes(where, self.probes))
        if self.tune is not None:
            plain = checks.tune(f"{where}: tune", self.tune, self.arms, self.seeds)
            object.__setattr__(self, "tune", Tune(*plain))
        for arm, overrides in arms.items():
            if "task" in overrides:
                text = "all arms of an experiment have one task; put it into the base"
                raise UserError(f"{where}: arm {arm!r}: task: {text}.")
        self.check_claims(metric.TASKS.get(self.task))

    @property
    def task(self) -> str:
        """The name of the task that the networks are trained for."""
        return str(self.base.get("task", RunConfig().task))

    def check_claims(self, metrics: Sequence[Metric] | None) -> None:
        """Raises UserError for a claim that no result could decide; `metrics` are those of the
        task, None if they are not known yet."""
        where = f"experiment {self.name}: claims"
        levels = {arm: self.levels(arm) for arm in self.arms}
        measuring = [probe for probe in self.probes if probe in catalog.MEASURES]
        if measuring and metrics is not None and metrics[0] != metric.ACCURACY:
            text = f"{measuring[0]!r} is for classification; allowed here"
            allowed = ", ".join(catalog.SIGNALS)
            raise UserError(f"experiment {self.name}: probes: {text}: {allowed}.")
        for claim in self.claims:
            checks.claim(where, claim, levels, metrics)
            checks.measured(f"{where}: {claim.kind}", claim, self.probes)

    @property
    def factors(self) -> list[str]:
        """The dotted paths that differ between arms, in order of appearance."""
        arms = self.arms.values()
        paths = dict.fromkeys(path for arm in arms for path in arm)
        return [
            path
            for path in paths
            if len({repr(arm.get(path, self.base.get(path))) for arm in arms}) > 1
        ]

    @property
    def plain_tune(self) -> dict[str, Any] | None:
        """`tune` as plain values."""
        return json.loads(json.dumps(self.tune and dataclasses.asdict(self.tune)))

    def overrides(self, arm: str) -> dict[str, Any]:
        """The overrides of an arm, with the values that tuning chose for it."""
        return {**self.arms[arm], **self.chosen.get(arm, {})}

    def levels(self, arm: str) -> dict[str, Any]:
        """The values of the experiment's factors in an arm; None if neither it nor the base sets
        one."""
        return {path: self.arms[arm].get(path, self.base.get(path)) for path in self.factors}

    def baseline(self, arm: str) -> str:
        """The baseline of the arm's block: the block's first arm."""
        return next(name for name in self.arms if block_of(name) == block_of(arm))

    def config(self, arm: str, changes: Overrides, levels: Levels) -> ResolvedConfig:
        """The resolved configuration of one arm, with `changes` (of the flag --set) on the base.
        Weights to start from (`transfer.init_from`) bring their network and preprocessing, which
        override the base but neither `changes` nor the arm.

        Raises UserError for an unknown arm, for anything the schema refuses, and for a change of
        a field that the arm itself varies.
        """
        if arm not in self.arms:
            raise unknown(f"experiment {self.name}: arm", arm, self.arms)
        if changes.get("task", self.task) != self.task:
            raise UserError(
                f"--set task: experiment {self.name} has the task {self.task}; write it into the "
                "base of an experiment of your own, or ask with --vary."
            )
        for path in changes:
            if self.tune and path in self.tune.grid:
                raise UserError(f"--set {path}: is tuned by experiment {self.name}.")
            if path in self.arms[arm]:
                raise UserError(
                    f"--set {path}: is varied by arm {arm!r} "
                    f"({path}={self.arms[arm][path]!r}); pick another arm or edit the experiment."
                )
        try:
            fields = {
                **self.base,
                **self.weights_config(arm, changes, levels),
                **changes,
                **self.overrides(arm),
            }
            return resolve(override(RunConfig(), fields, levels), levels)
        except UserError as error:
            by_flag = error.path and any(
                f"{path}.".startswith(f"{error.path}.") for path in changes
            )
            where = "" if by_flag else f"arm {arm!r}: "
            starts = error.path == "transfer.init_from" and not by_flag
            first = f" First: {self.prerequisite}" if starts and self.prerequisite else ""
            raise UserError(f"{where}{error}{first}", path=error.path) from None

    def weights_config(self, arm: str, changes: Overrides, levels: Levels) -> dict[str, Any]:
        """The fields of the network and the preprocessing that come with the weights an arm starts
        from, except those set by `changes` or the arm; empty if it starts from none."""
        overrides = {**changes, **self.overrides(arm)}
        fields = {**self.base, **overrides}
        source, model = fields.get("transfer.init_from"), fields.get("model.name")
        if model in catalog.CLASSIFIERS:  # stays, though the weights are of another network
            overrides = {"model.name": model, **overrides}
        return _read_weights_config(paths.weights(str(source)), overrides, levels) if source else {}


def _read_weights_config(folder: str, overrides: Overrides, levels: Levels) -> dict[str, Any]:
    """The fields of the network and the preprocessing that the weights in a folder were trained
    with, except those in `overrides`. Raises UserError if there are no weights, or weights of
    another network."""
    directory = Path(folder)
    field, path = "transfer.init_from", directory / "config.json"
    if not path.is_file():
        text = f"{field}: {directory} holds no weights (no config.json in it)."
        raise UserError(text, path=field)
    try:
        config = configs.read(path, levels)
    except UserError as error:
        hint = "If it is a level of your own, it has to be in the LEVELS of this experiment's file."
        raise UserError(f"{field}: {path}: {error}\n{hint}", path=field) from None
    model = overrides.get("model.name", config.model.name)
    if config.model.name not in (model, catalog.CLASSIFIERS.get(model)):
        raise UserError(
            f"{field}: {directory} holds weights of {config.model.name}, model.name is {model}; "
            "give the weights to arms of that network only.",
            path=field,
        )
    fields = {
        name: value
        for name, value in flat(config).items()
        if (name.startswith("model.") or name in PREPROCESSING)
        and name not in overrides
        # of a classifier only the encoder is taken
        and not (value is None and name.removeprefix("model.") in catalog.DECODER)
    }
    if overrides.get("data.normalize", "given") != "given":  # mean and sd are of the weights' own
        fields.pop("data.mean", None)
        fields.pop("data.sd", None)
    return fields
