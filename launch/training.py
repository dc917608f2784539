"""What runs are trained with, independent of their study. It does not import jax."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnjax.config import Levels, ResolvedConfig
from cnnjax.metric import Metric


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """What runs are trained with.

    Attributes:
      configs: the resolved configuration of each arm.
      metrics: the metrics of the task, the primary one first.
      probes: names of probes in `cnnjax.analysis.probes`.
      levels: the user's own levels.
      path: the experiment's file, which messages about its code name.
      data_dir: the folder where data sets are looked for, or None.
      max_minutes: after how many minutes no further run is started, or None.
      replicas: how many runs of one program are trained together; None to choose the fastest.
      steps_per_call: steps per call of the program; None to choose the fastest.
      profile: the folder that a trace of some steps is written to, or None.
      devices: the number of devices that a process computes on; None for all.
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
