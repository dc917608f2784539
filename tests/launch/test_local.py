"""What a sweep refuses, what stops it, and what it prints."""

import errno
import os

import pytest
from launch_requests import request, training
from PIL import Image

from cnnjax import data, files
from cnnjax.ablation.claims import better, diverges
from cnnjax.errors import MachineError, UserError
from cnnjax.result import RunResult
from common import program, small
from launch import local, plan, progress, work

TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing "params/0" in OCDBT database: Failed to write 61781 bytes '
    "to file 5: No space left on device [os_error_code='28']"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(TENSORSTORE), "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError(errno.EACCES, "Permission denied", "a/b"), "Permission denied: 'a/b'"),
        (MachineError("result.json: cannot be written", errno=errno.EDQUOT), "quota exceeded"),
    ],
)
def test_a_disk_that_cannot_be_written_stops_the_sweep_with_one_line(tmp_path, error, reason):
    with pytest.raises(UserError, match=rf"cannot be written \(.*{reason}\); make room") as caught:
        work.stop_for_machine(error, tmp_path)
    assert "RESOURCE" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        ValueError("UNKNOWN: Error writing: Input/output error [os_error_code='5']"),
        MachineError("Input/output error"),
    ],
)
def test_errors_of_the_machine_are_not_results_of_a_run(tmp_path, error):
    with pytest.raises(MachineError, match="Input/output error"):
        work.stop_for_machine(error, tmp_path)


def test_a_full_disk_is_recognized_by_errno(tmp_path):
    work.stop_for_machine(ValueError("No space left on device"), tmp_path)
    error = ValueError("could not be saved")
    error.__cause__ = OSError(errno.ENOSPC, "Kein Platz")
    with pytest.raises(MachineError, match="make room"):
        work.stop_for_machine(error, tmp_path)


def test_other_errors_are_left_to_the_run(tmp_path):
    work.stop_for_machine(ValueError("broken"), tmp_path)
    work.stop_for_machine(OSError(errno.ENOENT, "No such file"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_sweep_in_a_workdir_is_refused(tmp_path):
    with files.lock(tmp_path / ".sweep.lock", wait=False):
        done = program("launch.sweep", "--experiment=quickstart", f"--workdir={tmp_path}", check=2)
    assert f"another sweep is at work in {tmp_path}" in done.stderr
    assert not (tmp_path / "study.json").exists()


def test_with_max_minutes_runs_are_in_order_of_seeds_and_none_is_started_late(tmp_path):
    requested = request(tmp_path, ["a", "b"], max_minutes=1e-9, replicas=1)
    pending = requested.pending
    assert [(run.arm, run.seed) for run in pending] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert work.work(None, requested.training, pending, quiet=True) == 0
    assert not list(tmp_path.iterdir())


def test_an_image_of_an_evaluation_counts_as_a_third(tmp_path):
    """30 steps of 50 examples of 1212, evaluated twice an epoch on 135, once on the 450 of test."""
    evaluations = 1500 / 1212 / 0.5 + 1
    images = 1500 + (evaluations * 135 + 450) / 3
    loaded = {"a": data.load(small().data)}
    assert local._images(request(tmp_path), loaded) == {"a": pytest.approx(2 * images)}


def test_the_plan_prints_how_many_runs_a_claim_takes(tmp_path, capsys):
    claims = (better("a", "b"), diverges("b"), diverges("a", share=0.1))
    plan._show_power(request(tmp_path, ["a", "b"], range(4), claims))
    text = capsys.readouterr().out
    assert "claims: 3, put to 3 tests" in text
    assert "b diverges in more than 50 % of its runs: 4 runs cannot show it, even if all do" in text
    assert "a diverges in more than 10 % of its runs: it takes 3 of 4 runs to show it" in text


def test_runs_that_were_not_started_are_counted_not_listed(tmp_path, capsys):
    (tmp_path / "a/seed-1").mkdir(parents=True)
    (tmp_path / "a/seed-1/config.json").write_text("{}")
    assert local._print_summary(request(tmp_path, seeds=range(3))) == 1
    text = capsys.readouterr().out
    assert "2 of them have not been started; the same command goes on from here" in text
    assert "a seed 1: has not ended; give the same command again" in text
    assert "a seed 0" not in text


def test_the_remaining_time_is_estimated_from_runs_after_the_first_of_each_process(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = progress.Progress(training({}), 10, processes=2)
    remaining = []
    for done, passed in ((1, 20), (2, 21), (3, 22), (4, 23), (10, 29)):
        now[0] = 100 + passed
        remaining.append(round(pace.remaining(done), 1))
    # 20 s for two at a time; 21 s for two, with start-up; from the fourth on a second.
    assert remaining == [90.0, 84.0, 51.3, 6.0, 0.0]


def test_the_remaining_time_is_at_most_max_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = progress.Progress(training({}, max_minutes=1), 100)
    now[0] = 40.0
    assert pace.remaining(1) == 20.0
    now[0] = 70.0
    assert pace.remaining(2) == 0.0


def test_a_worker_whose_parent_has_ended_does_nothing(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('not to be read')\n")
    words = [f"--experiment={file}", f"--workdir={tmp_path / 'w'}", "--worker=0"]
    orphan = program("launch.sweep", *words, check=1, CNNJAX_PARENT="0")
    assert not orphan.stderr
    child = program("launch.sweep", *words, check=2, CNNJAX_PARENT=str(os.getpid()))
    assert "SystemExit: not to be read" in child.stderr


@pytest.fixture
def pets(tmp_path):
    """folder:PATH of two classes with six images each."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(6):
            image = Image.new("L", (28, 28), 10 * label + index)
            image.save(tmp_path / "pets" / name / f"{index}.png")
    return f"folder:{tmp_path / 'pets'}"


def test_folders_of_images_are_described_once_for_what_is_pending(tmp_path, capsys, pets):
    arms = {
        "a": small(),
        "b": small(data__name=pets),
        "c": small(data__name=pets, data__augmentation__flip=0.5),
        "d": small(data__name="folder:/nowhere"),
    }

    requested = request(tmp_path, arms)
    for run in requested.runs:
        if run.arm == "d":
            ended = RunResult(arm="d", block="", seed=run.seed, status="diverged")
            ended.write(run.directory / "result.json")
    local.describe_data(requested)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{pets}: 12 grey images 28x28 in 2 classes"
    assert sum(line.split() == ["all", "9", "1", "2"] for line in rest) == 1


@pytest.mark.parametrize("name", ["sweep", "train"])
def test_a_program_describes_its_data_before_it_starts(tmp_path, name, pets):
    file = tmp_path / "mine.py"
    file.write_text(
        "from cnnjax.ablation.experiment import Experiment\n"
        "EXPERIMENT = Experiment(name='mine', question='?', base={'model.name': 'mlp', "
        f"'data.name': {pets!r}, 'training.batch_size': 64}}, arms={{'a': {{}}}}, seeds=[0])\n"
    )
    arm = ["--arm=a"] if name == "train" else []
    done = program(
        f"launch.{name}", f"--experiment={file}", *arm, f"--workdir={tmp_path / 'w'}", check=2
    )
    assert done.stdout.startswith(f"{pets}: 12 grey images")
    assert "training.batch_size: 64 is larger than the 9 training examples" in done.stderr


def test_prepare_describes_a_folder(pets):
    done = program("launch.prepare", f"--data={pets}")
    assert done.stdout.splitlines()[:2] == [
        f"{pets}: needs no preparing",
        f"{pets}: 12 grey images 28x28 in 2 classes",
    ]


@pytest.mark.parametrize("name", ["logs", "study"])
def test_a_workdir_with_links_is_refused(tmp_path, name):
    (tmp_path / "home").mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / name).symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match=rf"w/{name}: is a link to {tmp_path}/home; nothing is"):
        local.execute(request(tmp_path / "w"))


def test_parameter_groups_are_printed_and_a_wrong_pattern_is_an_error(tmp_path):
    arm = ("--experiment=quickstart", "--arm=relu")
    train = ("launch.train", *arm, "--seeds=0", f"--workdir={tmp_path}", "--set=training.steps=4")
    done = program(*train, '--set=optimizer.groups=[{"pattern": "cnv1"}]', check=2)
    message = "error: arm 'relu': optimizer.groups[0].pattern: 'cnv1' matches no parameter"
    assert done.stderr.startswith(message)
    groups = '--set=optimizer.groups=[{"pattern": "conv1", "frozen": true}]'
    line = "parameter groups: conv1 156 (frozen); others 61,550"
    assert f"relu: {line}\n" in program(*train, groups).stdout
    assert program("launch.inspect", *arm, groups).stdout.endswith(f"\n{line}\n")
