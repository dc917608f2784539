"""The workdir of a study: its layout, and how seeds and arms are added. No jax.

DIR/study.json                      experiment, arms, seeds, claims, commands, looks at test
DIR/study/<date>-<experiment>.py    the experiment's file as it was, and any uncommitted diff
DIR/<arm>/seed-<n>/config.json      the resolved configuration
                  /runtime.json     settings that the bits depend on: threads, replicas ...
                  /metrics.jsonl    training and validation figures by step
                  /checkpoints/     orbax
                  /result.json      once the run has ended
                  /crashes.json      how often its process has died, if it has
                  /{predictions,examples}_{validation,test}.npz
DIR/report.html, .md, ...           the report on the validation split
DIR/final/report.html, .md, ...     the report on the test split, if it was looked at
"""

import contextlib
import dataclasses
import datetime
import itertools
import platform
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import cache, files, fingerprint, machine, metric, result
from cnnjax.ablation import agreement, checks, claims, provenance, reading, tuning
from cnnjax.ablation.claims import block_of
from cnnjax.ablation.experiment import TEXTS, Experiment
from cnnjax.ablation.record import read
from cnnjax.config import ResolvedConfig, RunConfig, flat_json
from cnnjax.config import changes as config_changes
from cnnjax.errors import UserError
from cnnjax.fingerprint import Fingerprint
from cnnjax.metric import CLASSIFICATION, Metric
from cnnjax.result import SPLITS, RunResult

FINAL = "final"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one arm with one seed."""

    arm: str
    seed: int
    directory: Path

    @property
    def block(self) -> str:
        """The block of the run's arm."""
        return block_of(self.arm)

    def result(self) -> RunResult | None:
        """The content of result.json; None if it is missing or not valid."""
        try:
            return result.read(self.directory / "result.json")
        except UserError:
            return None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: diverged, or finished with figures and predictions. A
        failed run is retried; one without predictions is evaluated again if it has its last
        checkpoint."""
        result = self.result()
        if result is None or result.status != "finished":
            return result is not None and result.status == "diverged"
        checkpoint = self.directory / "checkpoints" / str(result.steps)
        evaluated = result.evaluated("validation")
        return evaluated and (self._has_predictions(result) or not checkpoint.is_dir())

    def _has_predictions(self, result: RunResult) -> bool:
        """Whether there are predictions for every split with figures, and none is truncated: the
        table of contents is at the end of the file."""
        splits = filter(result.evaluated, SPLITS)
        paths = [self.directory / f"predictions_{split}.npz" for split in splits]
        return all(path.is_file() and zipfile.is_zipfile(path) for path in paths)


def runs(workdir: Path, arms: Sequence[str], seeds: Sequence[int]) -> list[RunFolder]:
    """The folders of the runs of these arms and seeds, arm by arm."""
    return [RunFolder(arm, seed, workdir / arm / f"seed-{seed}") for arm in arms for seed in seeds]


def extend(
    workdir: Path,
    experiment: Experiment,
    source: Path,
    configs: Mapping[str, ResolvedConfig],
    seeds: Sequence[int],
    *,
    metrics: Sequence[Metric] = CLASSIFICATION,
    planned: Mapping[str, ResolvedConfig],
    data: Sequence[Fingerprint],
    changes: Mapping[str, Any],
    command: str,
) -> int:
    """Starts a study in `workdir`, or adds arms, seeds and claims to the existing one. Claims are
    never removed, even if the experiment's file no longer has them; a claim that is added after
    there are results is marked post hoc. A lost study.json is made again from the runs, and their
    number is returned; its claims are not known, so that all claims are post hoc.

    Args:
      workdir: the folder; created if it does not exist.
      experiment: the experiment.
      source: the experiment's file, of which a copy is saved.
      configs: the resolved configuration of each arm to be run.
      seeds: the seeds to be run.
      metrics: those of the experiment's task.
      planned: the resolved configurations of all arms in the experiment's file.
      data: the fingerprints of the data to be trained on, as far as they were read.
      changes: the changes by `--set`.
      command: the command, as typed.

    Raises UserError if the folder belongs to another experiment, or an arm whose runs have started
    has another configuration or other data; nothing is written then.
    """
    with files.lock(workdir / ".lock", wait=True):
        new = not (workdir / "study.json").exists()
        adopted = check(workdir, experiment, configs, planned, metrics)
        check_data(workdir, data)
        study = _new_study(experiment) if new else read(workdir)
        if adopted:
            study |= _adopted_fields(workdir)
        configs = {**{arm: planned[arm] for arm in adopted}, **configs}
        arms = study["arms"]
        missing = [
            arm
            for arm, config in configs.items()
            if arm not in arms or config_changes(arms[arm]["config"], config)
        ]
        requested = dict.fromkeys([*seeds, *itertools.chain.from_iterable(adopted.values())])
        new_seeds = [seed for seed in requested if seed not in study["seeds"]]
        old_claims = reading.claims_of(workdir, study, metrics)
        old_keys = {claim.key for claim, _ in old_claims}
        new_claims = [claim for claim in experiment.claims if claim.key not in old_keys]
        has_results = any(workdir.glob("*/seed-*/result.json"))
        digests = _settings_digests(experiment, {**planned, **configs})
        extensions = study["extensions"]
        recorded = has_results or any(part["planned"] == digests for part in extensions)
        fingerprints = _recorded_data(workdir, study)
        for each in data:
            fingerprints += [] if each in fingerprints else [each]
        recorded = recorded and fingerprints == study.get("data", [])
        if not new and not missing and not new_seeds and not new_claims and recorded:
            return 0
        for arm in missing:
            others = [other for name, other in arms.items() if name != arm]
            taken = any(other["baseline"] and other["block"] == block_of(arm) for other in others)
            arms[arm] = {
                "block": block_of(arm),
                "baseline": experiment.baseline(arm) == arm and not taken,
                "defined": digests[arm],
                "overrides": experiment.overrides(arm),
                "levels": experiment.levels(arm),
                "config": configs[arm].model_dump(mode="json"),
            }
        study["factors"] = list(dict.fromkeys([*experiment.factors, *study["factors"]]))
        study["tune"] = experiment.plain_tune
        study["metrics"] = [metric.to_dict(each) for each in metrics]
        study["arms"] = {arm: arms[arm] for arm in (*experiment.arms, *arms) if arm in arms}
        study["seeds"] = sorted([*study["seeds"], *new_seeds])
        study["data"] = fingerprints
        study["set"] = [f"{path}={value}" for path, value in changes.items()]
        study["command"] = study["command"] or command
        study["source"] = {"path": str(source.resolve()), "sha256": files.sha256(source)}
        now = datetime.datetime.now(datetime.UTC)
        date, stamp = now.isoformat(timespec="seconds"), now.strftime("%Y%m%dT%H%M%S")
        study["claims"] += [
            {**claims.to_dict(claim), "added": date, "post_hoc": has_results}
            for claim in new_claims
        ]
        extensions.append(
            {
                "date": date,
                "command": command,
                "arms": list(configs),
                "planned": digests,
                "seeds": list(seeds),
                "after_results": has_results,
                "versions": provenance.versions(),
                "git": provenance.save_source(workdir / "study", stamp, source),
            }
        )
        files.write_json(workdir / "study.json", study)
        return sum(map(len, adopted.values()))


def count_look(workdir: Path, command: str) -> None:
    """Counts a look at the test split. Raises UserError if `workdir` holds no study."""
    read(workdir)
    with files.lock(workdir / ".lock", wait=True):
        study = read(workdir)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        study["looks_at_test"].append({"date": now, "command": command})
        files.write_json(workdir / "study.json", study)


def check(
    workdir: Path,
    experiment: Experiment,
    configs: Mapping[str, ResolvedConfig],
    planned: Mapping[str, ResolvedConfig],
    metrics: Sequence[Metric] = CLASSIFICATION,
) -> dict[str, list[int]]:
    """Raises UserError if these arms cannot be added to `workdir`; writes nothing.

    Args:
      workdir: the folder.
      experiment: the experiment.
      configs: the resolved configurations of the arms to be run.
      planned: those of all arms in the experiment's file.
      metrics: those of the experiment's task.

    Returns {arm: seeds} of the runs from which a lost study.json can be made again.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is not a folder.")
    if (workdir / "study.json").exists():
        study = read(workdir)
        agreement.check_question(workdir, study, experiment)
        agreement.check_metrics(workdir, study, metrics)
        agreement.check_arms(workdir, study, configs)
        return {}
    if adopted := agreement.adoptable_runs(workdir, experiment, {**planned, **configs}):
        return adopted
    if taken := [name for name in checks.REPORT if (workdir / name).exists()]:
        raise UserError(
            f"--workdir: {workdir} is of no study and has a {taken[0]}, which the report would "
            "overwrite; pick another folder."
        )
    return {}


def check_data(workdir: Path, data: Iterable[Fingerprint]) -> None:
    """Raises UserError if the data to be trained on differ from those that runs of `workdir`, or of
    the study that tunes its arms, have started with."""
    for folder in (workdir, workdir / tuning.FOLDER):
        study = read(folder) if (folder / "study.json").is_file() else {}
        if text := fingerprint.changed(_recorded_data(folder, study), data):
            raise UserError(
                f"--workdir: {workdir} has runs on other data, {text}. Put the data back, or pick "
                "another folder."
            )


def _recorded_data(workdir: Path, study: Mapping[str, Any]) -> list[Any]:
    """The fingerprints of the data that runs have started with, from study.json or, if it does not
    have them, from the runs."""
    checkpoints = [path for path in workdir.glob("*/seed-*/checkpoints/*") if path.name.isdecimal()]
    if not checkpoints and not any(workdir.glob("*/seed-*/result.json")):
        return []
    if "data" in study:
        return list(study["data"])
    fingerprints: list[Any] = []
    for path in workdir.glob("*/seed-*/runtime.json"):
        with contextlib.suppress(UserError, AttributeError):
            recorded = files.read_json(path).get("data")
            if recorded and recorded not in fingerprints:
                fingerprints.append(recorded)
    return fingerprints


def _new_study(experiment: Experiment) -> dict[str, Any]:
    return {
        "experiment": {name: getattr(experiment, name) for name in ("name", *TEXTS)},
        "factors": experiment.factors,
        "tune": experiment.plain_tune,
        "arms": {},
        "seeds": [],
        "claims": [],
        "looks_at_test": [],
        "command": "",
        "set": [],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "extensions": [],
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": machine.processor(),
            "python": platform.python_version(),
        },
    }


def _adopted_fields(workdir: Path) -> dict[str, Any]:
    """The fields of a study whose study.json was lost and is made again. A final report implies a
    look at the test split."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    look = {"date": "before that", "command": "not known"}
    return {"adopted": now, "looks_at_test": [look] if (workdir / FINAL).is_dir() else []}


def _settings_digests(
    experiment: Experiment, configs: Mapping[str, ResolvedConfig]
) -> dict[str, str]:
    """{arm: a digest of its settings}, without those that tuning chooses. Defaults are left out, so
    that a field which an older version did not have changes nothing."""
    tuned = experiment.tune.grid if experiment.tune else ()
    default = flat_json(RunConfig().model_dump(mode="json"))
    digests = {}
    for arm, config in configs.items():
        settings = flat_json(config.model_dump(mode="json"))
        changed = {p: v for p, v in settings.items() if p not in tuned and v != default[p]}
        digests[arm] = cache.digest(changed)
    return digests
