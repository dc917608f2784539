"""The workdir of a study: what is in it, and how more seeds and arms are added. No jax.

DIR/study.json                      experiment, arms, seeds, claims, commands, looks at test
DIR/study/<date>-<experiment>.py    the experiment's file as it was, and any uncommitted diff
DIR/<arm>/seed-<n>/config.json      the resolved configuration
                  /runtime.json     what the bits depend on: threads, convolution, lanes
                  /metrics.jsonl    training and validation figures by step
                  /checkpoints/     orbax
                  /result.json      once the run has ended
                  /predictions_{validation,test}.npz
"""

import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import cache, files, machine
from cnnjax.ablation import claims, provenance
from cnnjax.ablation.claims import block_of
from cnnjax.ablation.experiment import Experiment
from cnnjax.config import RunConfig
from cnnjax.errors import UserError

REPORT = ("report.html", "report.md", "results.csv", "tables.tex", "figures")


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed, and the folder it is kept in."""

    arm: str
    seed: int
    directory: Path

    @property
    def block(self) -> str:
        """The block of the run's arm."""
        return block_of(self.arm)

    def result(self) -> dict[str, Any] | None:
        """The content of result.json, or None where there is none or it cannot be read."""
        try:
            result = files.read_json(self.directory / "result.json")
        except UserError:
            return None
        return result if isinstance(result, dict) and "status" in result else None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do: diverged, or finished with figures. A run that
        failed is retried."""
        result = self.result() or {"status": None}
        validation = result.get("validation")
        figures = isinstance(validation, dict) and isinstance(validation.get("accuracy"), float)
        return (result["status"] == "finished" and figures) or result["status"] == "diverged"


def runs(workdir: Path, arms: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs of these arms and seeds, arm by arm."""
    return [Run(arm, seed, workdir / arm / f"seed-{seed}") for arm in arms for seed in seeds]


def read(workdir: Path) -> dict[str, Any]:
    """The content of study.json. Raises UserError where `workdir` holds no study."""
    path = workdir / "study.json"
    if not path.is_file():
        raise UserError(f"--workdir: {workdir} holds no study (no study.json in it).")
    study = files.read_json(path)
    kinds = {"experiment": dict, "arms": dict, "seeds": list}
    if not isinstance(study, dict) or not all(
        isinstance(study.get(key), kind) for key, kind in kinds.items()
    ):
        raise UserError(f"{path}: is not a study (experiment, arms or seeds are missing).")
    return study


def extend(
    workdir: Path,
    experiment: Experiment,
    source: Path,
    configs: Mapping[str, RunConfig],
    seeds: Sequence[int],
    *,
    planned: Mapping[str, RunConfig],
    changes: Mapping[str, Any],
    command: str,
) -> None:
    """Starts a study in `workdir`, or adds arms, seeds and claims to the one that is there. A claim
    stays, whatever becomes of the experiment's file; one that is new once there are results is
    marked post hoc.

    Args:
      workdir: the folder; made where it does not exist.
      experiment: the experiment asked for.
      source: the experiment's file, a copy of which is kept.
      configs: the resolved configuration of each arm that is to be run.
      seeds: the seeds that are to be run.
      planned: the resolved configurations of all arms that the experiment's file has.
      changes: what `--set` changed.
      command: the command, as typed.

    Raises UserError where the folder belongs to another experiment, or an arm of which a run has
    begun has another configuration; nothing is written then.
    """
    with files.lock(workdir / ".lock", wait=True):
        check(workdir, experiment, configs)
        new = not (workdir / "study.json").exists()
        study = _fresh(experiment) if new else read(workdir)
        arms = study["arms"]
        plain = {arm: config.model_dump(mode="json") for arm, config in configs.items()}
        missing = [arm for arm in configs if arm not in arms or arms[arm]["config"] != plain[arm]]
        more = [seed for seed in seeds if seed not in study["seeds"]]
        known = _claimed(workdir, study)
        stated = [claim for claim in experiment.claims if claim.key not in known]
        seen = any(workdir.glob("*/seed-*/result.json"))
        digests = _digests(experiment, {**planned, **configs})
        parts = study["extensions"]
        told = seen or any(part.get("planned") == digests for part in parts)
        if not new and not missing and not more and not stated and told:
            return
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
        study["tune"] = _tune(experiment)
        order = [*experiment.arms, *arms]
        study["arms"] = dict(sorted(arms.items(), key=lambda item: order.index(item[0])))
        study["seeds"] = sorted([*study["seeds"], *more])
        study["set"] = [f"{path}={value}" for path, value in changes.items()]
        study["command"] = study["command"] or command
        study["source"] = {"path": str(source.resolve()), "sha256": files.sha256(source)}
        now = datetime.datetime.now(datetime.UTC)
        study["claims"] = study.get("claims", []) + [
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


def _claimed(workdir: Path, study: Mapping[str, Any]) -> set[str]:
    """The keys of the claims of a study. Raises UserError where one of them makes no sense."""
    try:
        return {claims.read(values).key for values in study.get("claims", [])}
    except (ValueError, TypeError) as error:
        raise UserError(f"{workdir / 'study.json'}: claims: {error}.") from None


def look(workdir: Path, command: str) -> None:
    """Counts a look at the test split. Raises UserError where `workdir` holds no study."""
    read(workdir)
    with files.lock(workdir / ".lock", wait=True):
        study = read(workdir)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        study["looks_at_test"] = [
            *study.get("looks_at_test", []),
            {"date": now, "command": command},
        ]
        files.write_json(workdir / "study.json", study)


def check(workdir: Path, experiment: Experiment, configs: Mapping[str, RunConfig]) -> None:
    """Raises UserError where `workdir` cannot hold these arms; writes nothing."""
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is not a folder.")
    if (workdir / "study.json").exists():
        _same(workdir, read(workdir), experiment, configs)
    elif any(workdir.glob("*/seed-*/config.json")):
        raise UserError(f"--workdir: {workdir} holds runs but no study.json; pick another folder.")
    elif taken := [name for name in REPORT if (workdir / name).exists()]:
        raise UserError(
            f"--workdir: {workdir} is of no study and has a {taken[0]}, which the report would "
            "overwrite; pick another folder."
        )


def _fresh(experiment: Experiment) -> dict[str, Any]:
    texts = ("name", "question", "deck", "published", "expected", "notes")
    return {
        "experiment": {name: getattr(experiment, name) for name in texts},
        "factors": experiment.factors,
        "tune": _tune(experiment),
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


def _digests(experiment: Experiment, configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """{arm: a digest of its settings}, but for those that tuning chooses."""
    chosen = experiment.tune.grid if experiment.tune else ()
    settings = {arm: _flat_json(config.model_dump(mode="json")) for arm, config in configs.items()}
    return {
        arm: cache.digest({path: value for path, value in own.items() if path not in chosen})
        for arm, own in settings.items()
    }


def _tune(experiment: Experiment) -> Any:
    """What arms are tuned by, as plain values."""
    return json.loads(json.dumps(experiment.tune and dataclasses.asdict(experiment.tune)))


def _same(
    workdir: Path,
    study: Mapping[str, Any],
    experiment: Experiment,
    configs: Mapping[str, RunConfig],
) -> None:
    theirs = study["experiment"].get("name")
    if theirs != experiment.name:
        raise UserError(
            f"--workdir: {workdir} belongs to experiment {theirs!r}, not {experiment.name!r}; "
            "pick another folder."
        )
    tune = _tune(experiment)
    if study.get("tune", tune) != tune and any(workdir.glob("*/seed-*/config.json")):
        raise UserError(
            f"--workdir: {workdir} has arms tuned by {_said(study['tune'])}, not by {_said(tune)}: "
            "all arms of a study choose from one grid. Pick another folder."
        )
    for arm, config in configs.items():
        begun = any((workdir / arm).glob("seed-*/config.json"))
        if arm not in study["arms"] or not begun:
            continue
        before = _flat_json(study["arms"][arm]["config"])
        after = _flat_json(config.model_dump(mode="json"))
        changed = [
            f"{path} {before.get(path)!r} -> {after.get(path)!r}"
            for path in dict.fromkeys([*before, *after])
            if before.get(path) != after.get(path)
        ]
        if changed:
            raise UserError(
                f"--workdir: {workdir} has arm {arm!r} with another configuration: "
                f"{'; '.join(changed)}. Pick another folder or undo the change."
            )


def _said(tune: Any) -> str:
    """What arms are tuned by, in words."""
    if not tune:
        return "nothing"
    grid = "; ".join(f"{path}: {', '.join(map(str, own))}" for path, own in tune["grid"].items())
    return f"{grid} (seeds {', '.join(map(str, tune['seeds']))})"


def _flat_json(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            fields |= _flat_json(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
