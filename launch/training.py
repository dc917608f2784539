"""What runs are trained with, whatever study they are of. No jax."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cnnjax.config import Levels, ResolvedConfig
from cnnjax.metric import Metric


@dataclasses.dataclass(frozen=True)
class Training:
    """What runs are trained with.

    Attributes:
      configs: the resolved configuration of each arm.
      metrics: those of the task, the primary one first.
      probes: what else is measured, names of `cnnjax.analysis.probes`.
      levels: the user's own.
      path: the experiment's file, which messages about its code name.
      data_dir: where data sets are looked for, or None.
      max_minutes: after how many minutes no run is started any more, or None.
      replicas: how many runs of one program are trained together; None where it is not said.
      steps_per_call: how many steps a call of the program takes; None where it is not said.
      profile: the folder that a trace of some steps is written to, or None.
      devices: how many devices a process computes on; None for all.
    """

    configs: Mapping[str, ResolvedConfig]
    metrics: Sequence[Metric]
    probes: Sequence[str]
    levels: Levels
    path: Path
    data_dir: str | None = None
    max_minutes: float | None = None
    replicas: int | None = None
    steps_per_call: int | None = None
    profile: Path | None = None
    devices: int | None = None

    @property
    def primary(self) -> Metric:
        """The metric that runs are compared by."""
        return self.metrics[0]

    def without(self, arms: Collection[str]) -> "Training":
        """The same, but for some arms."""
        kept = {arm: config for arm, config in self.configs.items() if arm not in arms}
        return dataclasses.replace(self, configs=kept)
