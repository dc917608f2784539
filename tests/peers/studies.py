"""A whole study against the same as plain scripts: runs per hour.

    python -m tests.peers.studies --data_dir=DIR [--rounds=5]

5 arms (learning rates) of lenet5_modern, one epoch of MNIST each; every round trains all arms with
two new seeds, all contenders in turn, so that 5 rounds are 5 arms x 10 seeds of each. Start-up and
compilation count: every round begins with an empty compilation cache. The plain scripts train the
arms of a round one after another, a process for each arm, which may use all cores; cnnjax is
`launch.sweep --workers=2`, report included.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATES = (0.002, 0.005, 0.01, 0.02, 0.03)
RUNS = 2 * len(RATES)  # of one contender in a round
EXPERIMENT = f"""
from cnnjax.ablation.experiment import Experiment
EXPERIMENT = Experiment(
    name="throughput", question="How many runs an hour?",
    base={{
        "model.name": "lenet5_modern", "data.name": "mnist", "training.epochs": 1,
        "training.batch_size": 128, "optimizer.name": "momentum", "schedule.name": "cosine",
    }},
    arms={{f"rate{{n}}": {{"optimizer.learning_rate": rate}} for n, rate in enumerate({RATES})}},
)
"""


def images(folder, data_dir):
    """MNIST as the plain scripts read it."""
    from cnnjax import config, data

    loaded = data.load(config.Data(name="mnist"), data_dir=data_dir)
    parts = {}
    for name, split in loaded.splits.items():
        parts |= {f"{name}_images": split.images, f"{name}_labels": split.targets["label"]}
    np.savez(folder / "mnist.npz", **parts)
    return folder / "mnist.npz"


def timed(words, cache):
    started = time.perf_counter()
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def contenders(file, mine, data_dir):
    """name -> (seeds, folder) -> commands."""

    def script(module):
        return lambda seeds, folder: [[module, str(file), str(rate), *seeds] for rate in RATES]

    def ours(seeds, folder):
        words = ["launch.sweep", f"--experiment={mine}", f"--seeds={','.join(seeds)}"]
        words += [f"--workdir={folder / 'study'}", f"--data_dir={data_dir}", "--workers=2"]
        return [words]

    return {
        "cnnjax": ours,
        "PyTorch, eager": script("tests.peers.study_torch"),
        "Keras on JAX": script("tests.peers.study_keras"),
    }


def main(data_dir, rounds):
    seconds, accuracies = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mine = folder / "throughput.py"
        mine.write_text(EXPERIMENT)
        file = images(folder, data_dir)
        for number in range(rounds):
            seeds = [str(2 * number), str(2 * number + 1)]
            for name, commands in contenders(file, mine, data_dir).items():
                with tempfile.TemporaryDirectory() as own:
                    spent, found = 0.0, []
                    for words in commands(seeds, Path(own)):
                        took, text = timed(words, Path(own) / "cache")
                        spent += took
                        found += map(float, re.findall(r"validation (\d+\.\d+) %", text))
                assert len(found) == RUNS, text
                seconds.setdefault(name, []).append(spent)
                accuracies.setdefault(name, []).extend(found)
                print(f"round {number + 1}, {name}: {spent:.1f} s", flush=True)
    print("\n| | runs an hour | cnnjax against it: median (range) | mean accuracy |")
    print("| --- | ---: | ---: | ---: |")
    for name, spent in seconds.items():
        ratios = [b / a for a, b in zip(seconds["cnnjax"], spent, strict=True)]
        hour = 3600 * RUNS * rounds / sum(spent)
        against = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        accuracy = statistics.mean(accuracies[name])
        print(f"| {name} | {hour:,.0f} | {against} | {accuracy:.2f} % |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.data_dir, given.rounds)
