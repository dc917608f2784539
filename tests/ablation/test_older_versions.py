"""Studies that an older version made are read, and say what they said then.

tests/kept/*.zip are workdirs of revision 822d7ce with the reports that it wrote, but without
checkpoints; `tuned` is without predictions, too.
"""

import csv
import io
import zipfile

import pytest

from cnnjax.ablation import reading
from cnnjax.report import ablation
from common import ROOT


def verdicts_and_tables(report):
    """The verdicts and the tables of a report, without its pictures and explanations."""
    return [line for line in report.splitlines() if line.startswith(("**", "|"))]


@pytest.fixture(scope="module", params=["claims", "tuned"])
def kept(request, tmp_path_factory):
    """A workdir, and what its report of each split was."""
    workdir = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(ROOT / "tests" / "kept" / f"{request.param}.zip") as archive:
        archive.extractall(workdir)
    reports = workdir, workdir / "final"
    names = ("report.md", "results.csv", "signals.csv")
    before = {
        folder: {n: (folder / n).read_text() for n in names if (folder / n).exists()}
        for folder in reports
    }
    for final in (False, True):
        ablation.write(workdir, final=final)
    return workdir, before


def test_every_run_is_read(kept):
    workdir, _ = kept
    for folder in (workdir, workdir / "tuning"):
        if folder.is_dir():
            statuses = {run.status for run in reading.load(folder).runs}
            assert statuses <= {"finished", "diverged"}


def test_verdicts_and_tables_are_unchanged(kept):
    for folder, texts in kept[1].items():
        lines = verdicts_and_tables(texts["report.md"])
        assert len(lines) > 30
        assert verdicts_and_tables((folder / "report.md").read_text()) == lines


def test_figures_of_runs_and_layers_are_unchanged(kept):
    for folder, texts in kept[1].items():
        before, now = (
            list(csv.DictReader(io.StringIO(text)))
            for text in (texts["results.csv"], (folder / "results.csv").read_text())
        )
        assert len(before) == len(now) > 0
        for old, new in zip(before, now, strict=True):
            assert {name: new[name] for name in old} == old
        if "signals.csv" in texts:
            assert (folder / "signals.csv").read_text() == texts["signals.csv"]
