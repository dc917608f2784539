"""A run that is asked for, and what it shares with the other runs of its arm."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cnnjax import data
from cnnjax.config import RunConfig
from cnnjax.result import SPLITS
from cnnjax.train.probe import Probes
from cnnjax.train.session import Program, Session
from cnnjax.train.state import HParams


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is asked for.

    Attributes:
      config: its resolved configuration.
      seed: the run's seed.
      directory: the run's folder; the caller holds its lock.
      identity: what comes first in result.json: arm, block, seed.
    """

    config: RunConfig
    seed: int
    directory: Path
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def named(self) -> dict[str, Any]:
        """The identity, of a run without an arm too."""
        return {"arm": "", "block": "", "seed": self.seed, **self.identity}

    @property
    def key(self) -> tuple[str, int]:
        """The arm and the seed, which tell the run from others of a study."""
        return self.named["arm"], self.seed

    @property
    def label(self) -> str:
        """What the run is called in lines for the user."""
        return f"{self.named['arm']} seed {self.seed}".strip()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the runs of an arm share."""

    session: Session
    config: RunConfig
    program: Program
    runtime: Mapping[str, Any]
    probes: Probes

    def dataset(self, seed: int) -> data.Dataset:
        """The data as one seed sees them."""
        return self.session.dataset(self.config, seed)

    def hparams(self, seed: int) -> HParams:
        """The numbers and the keys of a run."""
        return self.session.hparams(self.config, seed, self.program)

    @property
    def store(self) -> Mapping[str, jax.Array]:
        """The examples on the devices."""
        return self.session.store(self.config, self.program)

    @functools.cached_property
    def multiply_adds(self) -> int | None:
        """Those of the network for one image, forward; None where they are not asked for."""
        if self.probes.multiply_adds is None:
            return None
        shape = self.session.load(self.config.data).spec.image_shape
        return self.probes.multiply_adds(self.session.plain_module(self.config), shape)

    def splits(self, dataset: data.Dataset) -> tuple[str, ...]:
        """The splits that are evaluated at the end."""
        wanted = SPLITS if self.config.evaluation.test else SPLITS[:1]
        return tuple(split for split in wanted if split in dataset.splits)
