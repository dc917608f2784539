"""Publishes final reports: Markdown, figures and their numbers, with an index of all claims.

python -m launch.publish --output=experiments/results DIR [DIR ...]

The report of each study on the test split is written again (which counts as a look) to a folder
with its name below --output, where README.md lists the claims of all studies that were published
there, now or before. Paths of this machine are not published: --workdir becomes runs/NAME,
--data_dir becomes DIR, --experiment the name of the file, and other paths the last part in DIR
(`cnnjax.ablation.anonymous`). Images of a folder are not published either: reports show no examples
of them.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cnnjax import files, paths
from cnnjax.errors import UserError
from launch import flags

PUBLISHED = ("report.md", "results.csv", "signals.csv")


def main(arguments: Sequence[str]) -> int:
    """Publishes; returns the exit code."""
    output = flags.path("output")
    if not arguments:
        raise UserError("give the folders of the studies: --output=DIR STUDY [STUDY ...]")
    from cnnjax.ablation import anonymous, reading, study, verdicts
    from cnnjax.report import ablation, index
    from launch.request import command

    workdirs = [paths.parse("study", argument) for argument in arguments]
    names = [str(study.read(workdir)["experiment"]["name"]) for workdir in workdirs]
    _check(output, names, workdirs)
    studies = index.read(output)
    for workdir, name in zip(workdirs, names, strict=True):
        study.count_look(workdir, command())
        folder = output / name
        results = anonymous.anonymize(reading.load(workdir, "test"))
        findings = verdicts.findings(results)
        with tempfile.TemporaryDirectory() as temporary:
            rendered = Path(temporary)
            ablation.render(results, findings, rendered)
            _clear(folder)
            for file in (*rendered.glob("figures/*.svg"), *(rendered / name for name in PUBLISHED)):
                if file.exists():
                    files.write_bytes(folder / file.relative_to(rendered), file.read_bytes())
        studies[name] = index.summarize(results, findings)
        files.write_json(folder / index.SUMMARY, studies[name].model_dump(mode="json"))
        unfinished = sum(not run.scored for run in results.runs)
        missing = f", {unfinished} of its runs without a figure" if unfinished else ""
        print(f"published: {folder} (a look at the test split is counted{missing})")
    left_out = ", ".join(name for name in index.listed(output) if name not in studies)
    index.write(output, studies)
    print(f"index: {output / 'README.md'}")
    if left_out:
        print(f"not in the index until published again (an older version did): {left_out}")
    return 0


def _check(output: Path, names: Sequence[str], workdirs: Sequence[Path]) -> None:
    """Raises UserError where a study cannot be published to its folder below `output`."""
    from cnnjax.ablation import checks
    from cnnjax.report import ablation, index

    if os.path.lexists(output) and not output.is_dir():
        raise UserError(f"--output: {output} is not a folder.")
    if not _is_published(output / "README.md", index.OPENING):
        raise UserError(f"--output: {output / 'README.md'} is in the way: it is no index.")
    for name in names:
        checks.name(name)
        if names.count(name) > 1:
            raise UserError(f"two of the studies are called {name}; publish them to two folders.")
        folder = output / name
        for workdir in workdirs:
            target, source = folder.resolve(), workdir.resolve()
            if target in (source, *source.parents) or source in target.parents:
                raise UserError(f"--output: {folder} and the study {workdir} lie in one another.")
        if name.lower() == "readme.md":
            raise UserError(f"experiment {name!r}: name: is that of the index; pick another.")
        published = (folder / "report.md").is_file() and not (folder / "study.json").exists()
        if folder.exists() and not (
            published and _is_published(folder / "report.md", ablation.OPENING)
        ):
            raise UserError(f"--output: {folder} is in the way: it is no published report.")


def _is_published(path: Path, opening: str) -> bool:
    """Whether a file may be replaced: it does not exist, or begins as published files do."""
    try:
        return not path.exists() or path.read_text("utf-8").startswith(f"*{opening}")
    except (OSError, UnicodeDecodeError):
        return False


def _clear(folder: Path) -> None:
    """Removes the files that an earlier call published, and nothing else."""
    for old in [*(folder / file for file in PUBLISHED), *(folder / "figures").glob("*.svg")]:
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    flags.start("publish", main)
