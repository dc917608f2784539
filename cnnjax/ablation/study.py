"""The workdir of a study: what is in it, and how more seeds and arms are added. No jax.

DIR/study.json                      experiment, arms, seeds, claims, commands, looks at test
DIR/study/<date>-<experiment>.py    the experiment's file as it was, and any uncommitted diff
DIR/<arm>/seed-<n>/config.json      the resolved configuration
                  /runtime.json     what the bits depend on: threads, convolution, replicas
                  /metrics.jsonl    training and validation figures by step
                  /checkpoints/     orbax
                  /result.json      once the run has ended
                  /deaths.json      how often it has ended its process, where it has
                  /predictions_{validation,test}.npz
DIR/report.html, .md, ...           the report on the validation split
DIR/final/report.html, .md, ...     the report on the test split, once it was looked at
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

from cnnjax import cache, files, machine, metric, result
from cnnjax.ablation import agreement, claims, provenance, record, tuning
from cnnjax.ablation.claims import block_of
from cnnjax.ablation.experiment import Experiment
from cnnjax.config import ResolvedConfig, RunConfig, flat_json
from cnnjax.config import changes as config_changes
from cnnjax.errors import UserError
from cnnjax.fingerprint import Fingerprint
from cnnjax.metric import CLASSIFICATION, Metric
from cnnjax.result import SPLITS, RunResult

FINAL = "final"
REPORT = (
    "report.html",
    "report.md",
    "results.csv",
    "signals.csv",
    "tables.tex",
    "figures",
    FINAL,
)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One arm with one seed, and the folder it is kept in."""

    arm: str
    seed: int
    directory: Path

    @property
    def block(self) -> str:
        """The block of the run's arm."""
        return block_of(self.arm)

    def result(self) -> RunResult | None:
        """The content of result.json, or None where there is none or it cannot be read."""
        try:
            return result.read(self.directory / "result.json")
        except UserError:
            return None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do: diverged, or finished with figures and predictions.
        A run that failed is retried; one whose predictions are lost is evaluated again, as long as
        it has the checkpoint."""
        kept = self.result()
        if kept is None or kept.status != "finished":
            return kept is not None and kept.status == "diverged"
        checkpoint = self.directory / "checkpoints" / str(kept.steps)
        evaluated = kept.evaluated("validation")
        return evaluated and (self._has_predictions(kept) or not checkpoint.is_dir())

    def _has_predictions(self, kept: RunResult) -> bool:
        """Whether the predictions are there for every split with figures, and were not cut off: the
        table of contents stands at the end of a file."""
        splits = filter(kept.evaluated, SPLITS)
        paths = [self.directory / f"predictions_{split}.npz" for split in splits]
        return all(path.is_file() and zipfile.is_zipfile(path) for path in paths)


def runs(workdir: Path, arms: Sequence[str], seeds: Sequence[int]) -> list[RunFolder]:
    """The runs of these arms and seeds, arm by arm."""
    return [RunFolder(arm, seed, workdir / arm / f"seed-{seed}") for arm in arms for seed in seeds]


def read(workdir: Path) -> dict[str, Any]:
    """The content of study.json, validated. Raises UserError where `workdir` holds no study."""
    return record.read(record.path(workdir))


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
    """Starts a study in `workdir`, or adds arms, seeds and claims to the one that is there. A claim
    stays, whatever becomes of the experiment's file; one that is new once there are results is
    marked post hoc. A study.json that was lost is made again from the runs, and their number is
    returned; what was claimed before them is not known then, so that all of it is post hoc.

    Args:
      workdir: the folder; made where it does not exist.
      experiment: the experiment asked for.
      source: the experiment's file, a copy of which is kept.
      configs: the resolved configuration of each arm that is to be run.
      seeds: the seeds that are to be run.
      metrics: those of the experiment's task.
      planned: the resolved configurations of all arms that the experiment's file has.
      data: the fingerprints of the data that are to be trained on, as far as they were read.
      changes: what `--set` changed.
      command: the command, as typed.

    Raises UserError where the folder belongs to another experiment, or an arm of which a run has
    begun has another configuration or other data; nothing is written then.
    """
    with files.lock(workdir / ".lock", wait=True):
        new = not (workdir / "study.json").exists()
        adopted = check(workdir, experiment, configs, planned, metrics)
        check_data(workdir, data)
        study = _fresh(experiment) if new else read(workdir)
        if adopted:
            study |= _lost(workdir)
        configs = {**{arm: planned[arm] for arm in adopted}, **configs}
        arms = study["arms"]
        plain = {arm: config.model_dump(mode="json") for arm, config in configs.items()}
        missing = [
            arm
            for arm, config in configs.items()
            if arm not in arms or config_changes(arms[arm]["config"], config)
        ]
        wanted = dict.fromkeys([*seeds, *itertools.chain.from_iterable(adopted.values())])
        more = [seed for seed in wanted if seed not in study["seeds"]]
        known = _claimed(workdir, study, metrics)
        stated = [claim for claim in experiment.claims if claim.key not in known]
        seen = any(workdir.glob("*/seed-*/result.json"))
        digests = _digests(experiment, {**planned, **configs})
        parts = study["extensions"]
        told = seen or any(part["planned"] == digests for part in parts)
        kept = _kept_data(workdir, study)
        records = list(kept)
        for record in data:
            records += [] if record in records else [record]
        told = told and records == study.get("data", [])
        if not new and not missing and not more and not stated and told:
            return 0
        for arm in missing:
            others = [own for name, own in arms.items() if name != arm]
            taken = any(own["baseline"] and own["block"] == block_of(arm) for own in others)
            arms[arm] = {
                "block": block_of(arm),
                "baseline": experiment.baseline(arm) == arm and not taken,
                "defined": digests[arm],
                "overrides": experiment.overrides(arm),
                "levels": experiment.levels(arm),
                "config": plain[arm],
            }
        study["factors"] = list(dict.fromkeys([*experiment.factors, *study["factors"]]))
        study["tune"] = experiment.plain_tune
        study["metrics"] = [metric.write(each) for each in metrics]
        order = [*experiment.arms, *arms]
        study["arms"] = dict(sorted(arms.items(), key=lambda item: order.index(item[0])))
        study["seeds"] = sorted([*study["seeds"], *more])
        study["data"] = records
        study["set"] = [f"{path}={value}" for path, value in changes.items()]
        study["command"] = study["command"] or command
        study["source"] = {"path": str(source.resolve()), "sha256": files.sha256(source)}
        now = datetime.datetime.now(datetime.UTC)
        study["claims"] = study["claims"] + [
            {**claims.write(claim), "added": now.isoformat(timespec="seconds"), "post_hoc": seen}
            for claim in stated
        ]
        study["extensions"].append(
            {
                "date": now.isoformat(timespec="seconds"),
                "command": command,
                "arms": list(configs),
                "planned": digests,
                "seeds": list(seeds),
                "after_results": seen,
                "versions": provenance.versions(),
                "git": provenance.keep(workdir / "study", now.strftime("%Y%m%dT%H%M%S"), source),
            }
        )
        files.write_json(workdir / "study.json", study)
        return sum(map(len, adopted.values()))


def _claimed(workdir: Path, study: Mapping[str, Any], metrics: Sequence[Metric]) -> set[str]:
    """The keys of the claims of a study. Raises UserError where one of them makes no sense."""
    try:
        return {claims.read(values, metrics).key for values in study["claims"]}
    except ValueError as error:
        raise UserError(f"{workdir / 'study.json'}: claims: {error}.") from None


def look(workdir: Path, command: str) -> None:
    """Counts a look at the test split. Raises UserError where `workdir` holds no study."""
    read(workdir)
    with files.lock(workdir / ".lock", wait=True):
        study = read(workdir)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        study["looks_at_test"] = [
            *study["looks_at_test"],
            {"date": now, "command": command},
        ]
        files.write_json(workdir / "study.json", study)


def check(
    workdir: Path,
    experiment: Experiment,
    configs: Mapping[str, ResolvedConfig],
    planned: Mapping[str, ResolvedConfig],
    metrics: Sequence[Metric] = CLASSIFICATION,
) -> dict[str, list[int]]:
    """Raises UserError where `workdir` cannot hold these arms; writes nothing.

    Args:
      workdir: the folder.
      experiment: the experiment asked for.
      configs: the resolved configurations of the arms asked for.
      planned: those of all arms that the experiment's file has.
      metrics: those of the experiment's task.

    Returns {arm: seeds} of runs whose study.json was lost and can be made again.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is not a folder.")
    if (workdir / "study.json").exists():
        study = read(workdir)
        agreement.same_question(workdir, study, experiment)
        agreement.same_metrics(workdir, study, metrics)
        agreement.same_arms(workdir, study, configs)
        return {}
    if adopted := agreement.adoptable(workdir, experiment, {**planned, **configs}):
        return adopted
    if taken := [name for name in REPORT if (workdir / name).exists()]:
        raise UserError(
            f"--workdir: {workdir} is of no study and has a {taken[0]}, which the report would "
            "overwrite; pick another folder."
        )
    return {}


def check_data(workdir: Path, data: Iterable[Fingerprint]) -> None:
    """Raises UserError where data that are to be trained on are not those that the runs of
    `workdir`, or of the study that its arms are tuned by, were begun on."""
    for folder in (workdir, workdir / tuning.FOLDER):
        study = read(folder) if (folder / "study.json").is_file() else {}
        agreement.same_data(workdir, _kept_data(folder, study), data)


def _kept_data(workdir: Path, study: Mapping[str, Any]) -> list[Any]:
    """The fingerprints of the data that runs were begun on, as study.json has them or, where it was
    made again, the runs themselves."""
    steps = [path for path in workdir.glob("*/seed-*/checkpoints/*") if path.name.isdecimal()]
    if not steps and not any(workdir.glob("*/seed-*/result.json")):
        return []
    if "data" in study:
        return list(study["data"])
    kept: list[Any] = []
    for path in workdir.glob("*/seed-*/runtime.json"):
        with contextlib.suppress(UserError, AttributeError):
            record = files.read_json(path).get("data")
            kept += [record] if record and record not in kept else []
    return kept


def _fresh(experiment: Experiment) -> dict[str, Any]:
    texts = ("name", "question", "lecture", "published", "expected", "notes")
    return {
        "experiment": {name: getattr(experiment, name) for name in texts},
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


def _lost(workdir: Path) -> dict[str, Any]:
    """What is known of a study whose study.json was lost: that there was a look at the test split,
    if there is a final report."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    look = {"date": "before that", "command": "not known"}
    return {"adopted": now, "looks_at_test": [look] if (workdir / FINAL).is_dir() else []}


def _digests(experiment: Experiment, configs: Mapping[str, ResolvedConfig]) -> dict[str, str]:
    """{arm: a digest of its settings}, but for those that tuning chooses. What is left alone is no
    part of it, so that a field which an older version did not have makes no difference."""
    chosen = experiment.tune.grid if experiment.tune else ()
    settings = {arm: flat_json(each.model_dump(mode="json")) for arm, each in configs.items()}
    default = flat_json(RunConfig().model_dump(mode="json"))
    return {
        arm: cache.digest({p: v for p, v in own.items() if p not in chosen and v != default[p]})
        for arm, own in settings.items()
    }
