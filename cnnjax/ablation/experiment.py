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


@dataclasses.dataclass(frozen=True)
class Tune:
    """Settings that each arm may choose for itself before the comparison.

    Attributes:
      grid: dotted path -> the values to try, in order; several paths are crossed.
      seeds: the seeds to try them with; none of the experiment's own.
    """

    grid: Mapping[str, Sequence[Any]]
    seeds: Sequence[int] = (1000, 1001)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One question and how it is put to the test.

    Attributes:
      name: the name of the experiment; results of one workdir belong to one experiment.
      question: the question in one sentence, as the report's title.
      arms: arm name -> overrides of the base, in the report's order. The first arm of a block is
        its baseline. A name `block.arm` puts the arm into a block; a name without a dot belongs to
        the one block of the experiment.
      base: dotted paths that all arms share.
      seeds: the seeds that every arm is run with.
      claims: what is claimed before anything is run; see `cnnjax.ablation.claims`.
      probes: what else is measured in each run, names in `cnnjax.analysis.probes`.
      tune: what each arm chooses for itself on the validation split; see `cnnjax.ablation.tuning`.
      chosen: what tuning has chosen for arms, where it has.
      lecture: the passage of the lecture (docs/lecture.md) that the question comes from.
      published: what the literature found, with the source.
      expected: the direction expected before anything was run.
      notes: what the reader of the results should know.
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

    def __post_init__(self) -> None:
        checks.name(self.name)
        where = f"experiment {self.name}"
        for text in ("question", "lecture", "published", "expected", "notes"):
            if not isinstance(getattr(self, text), str):
                raise UserError(f"{where}: {text}: {getattr(self, text)!r} is not text.")
        if not isinstance(self.arms, Mapping) or not self.arms:
            raise UserError(f"{where}: arms: must be a dict, name -> overrides, and not empty.")
        for arm in self.arms:
            checks.arm_name(where, arm)
        arms = {arm: checks.plain(f"{where}: arm {arm!r}", own) for arm, own in self.arms.items()}
        object.__setattr__(self, "arms", arms)
        object.__setattr__(self, "base", checks.plain(f"{where}: base", self.base))
        checks.distinct(where, {arm: {**self.base, **own} for arm, own in arms.items()})
        object.__setattr__(self, "seeds", checks.seeds(where, self.seeds))
        object.__setattr__(self, "claims", checks.claims(where, self.claims))
        object.__setattr__(self, "probes", checks.probes(where, self.probes))
        if self.tune is not None:
            plain = checks.tune(f"{where}: tune", self.tune, self.arms, self.seeds)
            object.__setattr__(self, "tune", Tune(*plain))
        for arm, own in arms.items():
            if "task" in own:
                text = "all arms of an experiment have one task; put it into the base"
                raise UserError(f"{where}: arm {arm!r}: task: {text}.")
        self.check_claims(metric.TASKS.get(self.task))

    @property
    def task(self) -> str:
        """What its networks are trained for."""
        return str(self.base.get("task", RunConfig().task))

    def check_claims(self, metrics: Sequence[Metric] | None) -> None:
        """Raises UserError for a claim that no result could decide; `metrics` are those of the
        task, None where they are not known yet."""
        where = f"experiment {self.name}: claims"
        levels = {arm: self.levels(arm) for arm in self.arms}
        if metrics is not None and metrics[0] != metric.ACCURACY:
            of_classes = [probe for probe in self.probes if probe in catalog.MEASURES]
            if of_classes:
                text = f"{of_classes[0]!r} is for classification; allowed here"
                allowed = ", ".join(catalog.SIGNALS)
                raise UserError(f"experiment {self.name}: probes: {text}: {allowed}.")
        for claim in self.claims:
            checks.claim(where, claim, levels, metrics)
            checks.measured(f"{where}: {claim.kind}", claim, self.probes)

    @property
    def factors(self) -> list[str]:
        """The dotted paths that differ between arms, in order of appearance."""
        paths = dict.fromkeys(path for arm in self.arms.values() for path in arm)
        return [
            path
            for path in paths
            if path not in (self.tune.grid if self.tune else ())
            and len({repr(arm.get(path, self.base.get(path))) for arm in self.arms.values()}) > 1
        ]

    @property
    def plain_tune(self) -> Any:
        """What arms are tuned by, as plain values; None where they are not."""
        return json.loads(json.dumps(self.tune and dataclasses.asdict(self.tune)))

    def overrides(self, arm: str) -> dict[str, Any]:
        """What an arm changes in the base, with what tuning chose for it."""
        return {**self.arms[arm], **self.chosen.get(arm, {})}

    def levels(self, arm: str) -> dict[str, Any]:
        """The values of the experiment's factors in an arm; None where it leaves one alone."""
        return {path: self.arms[arm].get(path, self.base.get(path)) for path in self.factors}

    def baseline(self, arm: str) -> str:
        """The baseline of the arm's block: the block's first arm."""
        return next(name for name in self.arms if block_of(name) == block_of(arm))

    def config(self, arm: str, changes: Overrides, levels: Levels) -> ResolvedConfig:
        """The resolved configuration of one arm, with `changes` (of the flag --set) on the base.
        Weights to start from (`transfer.init_from`) bring their network and preprocessing: over the
        base's, but not over what `changes` or the arm say.

        Raises UserError for an unknown arm, for anything the schema refuses, and for a change of
        a field that the arm itself varies.
        """
        if arm not in self.arms:
            raise unknown(f"experiment {self.name}: arm", arm, self.arms)
        for path in changes:
            if path == "task":
                raise UserError("--set task: is the experiment's own; write it into its base.")
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
                **self.brought(arm, changes, levels),
                **changes,
                **self.overrides(arm),
            }
            return resolve(override(RunConfig(), fields, levels), levels)
        except UserError as error:
            asked = error.path and any(f"{path}.".startswith(f"{error.path}.") for path in changes)
            where = "" if asked else f"arm {arm!r}: "
            raise UserError(f"{where}{error}", path=error.path) from None

    def brought(self, arm: str, changes: Overrides, levels: Levels) -> dict[str, Any]:
        """The network and the preprocessing that come with the weights an arm starts from; nothing
        where it starts from none."""
        own = {**changes, **self.overrides(arm)}
        source = {**self.base, **own}.get("transfer.init_from")
        return _of_weights(Path(paths.weights(str(source))), own, levels) if source else {}


def _of_weights(directory: Path, own: Overrides, levels: Levels) -> dict[str, Any]:
    """The network and the preprocessing that the weights in a folder were made with, but for the
    fields in `own`. Raises UserError where there are none, or they are of another network."""
    field, path = "transfer.init_from", directory / "config.json"
    if not path.is_file():
        text = f"{field}: {directory} holds no weights (no config.json in it)."
        raise UserError(text, path=field)
    try:
        made_with = configs.read(path, levels)
    except UserError as error:
        hint = "If it is a level of your own, it has to be in the LEVELS of this experiment's file."
        raise UserError(f"{field}: {path}: {error}\n{hint}", path=field) from None
    if own.get("model.name", made_with.model.name) != made_with.model.name:
        raise UserError(
            f"{field}: {directory} holds weights of {made_with.model.name}, "
            f"model.name is {own['model.name']}; give the weights to arms of that network only.",
            path=field,
        )
    kept = {
        name: value
        for name, value in flat(made_with).items()
        if (name.startswith("model.") or name in PREPROCESSING) and name not in own
    }
    if own.get("data.normalize", "given") != "given":  # the weights' mean and sd go with it
        kept.pop("data.mean", None)
        kept.pop("data.sd", None)
    return kept
