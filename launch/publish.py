"""Publishes final reports: Markdown, figures and figures' numbers, with an index of all claims.

python -m launch.publish --output=experiments/results DIR [DIR ...]

Each study's report on the test split is made anew (which counts as a look), and goes into a folder
of its name below --output; README.md there lists the claims of all that are given. Paths of this
machine do not: --workdir is published as runs/NAME, --data_dir as DIR, of --experiment the file's
name, and of other paths, wherever they stand, the last part in DIR (`cnnjax.ablation.anonymous`).
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cnnjax import files, paths
from cnnjax.errors import UserError
from launch import flags

KEPT = ("report.md", "results.csv", "signals.csv")


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
    entries = []
    for workdir, name in zip(workdirs, names, strict=True):
        study.look(workdir, command())
        folder = output / name
        found = anonymous.study(reading.load(workdir, "test"))
        entry = index.Entry(name, found, verdicts.findings(found))
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary)
            ablation.render(found, entry.findings, made)
            _clear(folder)
            for file in (*made.glob("figures/*.svg"), *(made / kept for kept in KEPT)):
                if file.exists():
                    files.write_bytes(folder / file.relative_to(made), file.read_bytes())
        entries.append(entry)
        unfinished = sum(not run.scored for run in found.runs)
        missing = f", {unfinished} of its runs without a figure" if unfinished else ""
        print(f"published: {folder} (a look at the test split is counted{missing})")
    files.write_bytes(output / "README.md", index.write(entries).encode())
    print(f"index: {output / 'README.md'}")
    return 0


def _check(output: Path, names: Sequence[str], workdirs: Sequence[Path]) -> None:
    """Raises UserError where a study cannot have a folder of its own below `output`."""
    from cnnjax.ablation import checks
    from cnnjax.report import ablation, index

    if os.path.lexists(output) and not output.is_dir():
        raise UserError(f"--output: {output} is not a folder.")
    if not _ours(output / "README.md", index.OPENING):
        raise UserError(f"--output: {output / 'README.md'} is in the way: it is no index.")
    for name in names:
        checks.name(name)
        if names.count(name) > 1:
            raise UserError(f"two of the studies are called {name}; publish them to two folders.")
        folder = output / name
        for workdir in workdirs:
            ways = folder.resolve(), workdir.resolve()
            if ways[0] in (ways[1], *ways[1].parents) or ways[1] in ways[0].parents:
                raise UserError(f"--output: {folder} and the study {workdir} lie in one another.")
        if name.lower() == "readme.md":
            raise UserError(f"experiment {name!r}: name: is that of the index; pick another.")
        published = (folder / "report.md").is_file() and not (folder / "study.json").exists()
        if folder.exists() and not (published and _ours(folder / "report.md", ablation.OPENING)):
            raise UserError(f"--output: {folder} is in the way: it is no published report.")


def _ours(path: Path, opening: str) -> bool:
    """Whether a file may be written anew: it is not there, or opens as those written here do."""
    try:
        return not path.exists() or path.read_text("utf-8").startswith(f"*{opening}")
    except (OSError, UnicodeDecodeError):
        return False


def _clear(folder: Path) -> None:
    """Removes what an earlier call published there, and nothing else."""
    for old in [*(folder / file for file in KEPT), *(folder / "figures").glob("*.svg")]:
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    flags.define("publish")
    flags.start(main)
