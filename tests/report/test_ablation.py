import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import workdirs

from cnnjax.ablation import reading
from cnnjax.errors import UserError
from cnnjax.report import ablation as report
from cnnjax.report import markdown

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = '<script>alert("1")</script>'


class Page(HTMLParser):
    """What a page holds: tags, ids, attributes that could load something, text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text, self.links = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "data", "action", "srcset", "xlink:href"):
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Everything that can go wrong, and strings that try to get into the page."""
    workdir = tmp_path_factory.mktemp("study")
    hostile = f"{HOSTILE}|`x`$\\frac$"
    arms = {"relu": 0.971, "gelu": 0.978, "tanh": 0.955, "softplus": None, "<b>x&y": 0.95}
    workdirs.make(
        workdir,
        arms,
        6,
        overrides={"tanh": {"model.activation": hostile}},
        experiment={"question": f"Why? {hostile}", "notes": f"https://example.org {hostile}"},
    )
    workdirs.edit(workdir, "gelu", 1, status="failed", error=f"ValueError: {hostile}\nline two")
    workdirs.edit(workdir, "gelu", 2, status="diverged", diverged_at_step=44)
    (workdir / "gelu/seed-3/result.json").write_text('{"arm": "gelu", "sta')
    (workdir / "tanh/seed-0/result.json").write_text('["no", "table"]')
    (workdir / "tanh/seed-1/result.json").unlink()
    shutil.rmtree(workdir / "tanh/seed-2")
    return report.write(workdir, final=True).page.parent


@pytest.fixture(scope="module")
def page(broken):
    return Page((broken / "report.html").read_text("utf-8"))


def row(page_text, arm):
    """An arm's line in the first Markdown table with arms, by column."""
    lines = [line for line in page_text.splitlines() if line.startswith("| ")]
    head = next(line for line in lines if line.startswith("| Arm |"))
    line = next(line for line in lines if line.startswith(f"| {arm} |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, line)]
    return dict(zip(*cells, strict=True))


def test_page_is_whole_and_loads_nothing(broken, page):
    assert page.count("img") == page.count("link") == 0
    assert page.count("script") == 1  # sorts the tables; the policy lets no other run
    assert all(link.startswith("#") for link in page.links)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    text = (broken / "report.html").read_text("utf-8")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "<b>" not in text
    assert page.count("svg") == 3
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attrs for tag, attrs in page.tags if tag == "meta"
    ]


def test_addresses_occur_in_text_only(broken, page):
    assert "https://example.org" in page.words
    for _, attrs in page.tags:
        assert not [value for value in attrs.values() if value and "://" in value]


def test_ids_are_unique_and_references_exist(broken, page):
    assert len(page.ids) == len(set(page.ids)) > 10
    text = (broken / "report.html").read_text("utf-8")
    references = set(re.findall(r"url\(#([^)]+)\)", text)) | {link[1:] for link in page.links}
    assert references
    assert references <= set(page.ids)


def test_every_plot_has_an_alternative_text(page):
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert len(labels) == 3
    assert all(len(label) > 30 for label in labels)


def test_hostile_strings_are_escaped(broken, page):
    assert f"Why? {HOSTILE}|`x`$\\frac$" in page.words
    assert f"ValueError: {HOSTILE}" in page.words
    assert "<b>x&y" in page.words
    text = (broken / "report.md").read_text("utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert max(widths) == 10  # no cell was torn apart by a | of its own
    assert "https://" not in text


def test_broken_runs_are_counted_and_named(broken, page):
    text = (broken / "report.md").read_text("utf-8")
    rows = {arm: row(text, arm) for arm in ("gelu", "tanh", "softplus")}
    counts = {
        arm: [cells[c] for c in ("Seeds", "Diverged", "Failed")] for arm, cells in rows.items()
    }
    # Diverged runs score chance; failed and unreadable ones have no figure.
    assert counts == {
        "gelu": ["4", "1", "2"], "tanh": ["3", "0", "1"], "softplus": ["6", "6", "0"],
    }  # fmt: skip
    assert rows["softplus"]["Mean (%)"] == "10.00"
    assert rows["gelu"]["Finished only"].endswith("(3)")
    for place, status in {
        "gelu/seed-1": "failed",
        "gelu/seed-2": "diverged",
        "gelu/seed-3": "unreadable",
        "tanh/seed-0": "unreadable",
        "tanh/seed-1": "unfinished",
        "tanh/seed-2": "missing",
        "softplus/seed-5": "diverged",
    }.items():
        assert f"| {place} | {status} |" in text
        assert place in page.words
    assert "not finite at step 44" in page.words


def test_figures_of_the_table(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "gelu": 0.9}, 6)
    for seed in range(6):
        for arm, value in {"relu": 0.90, "gelu": 0.92 + 0.01 * (seed % 2)}.items():
            split = {"accuracy": value, "loss": 0.3, "examples": 100}
            workdirs.edit(tmp_path, arm, seed, test=split)
    page = report.write(tmp_path, final=True).page
    text = page.with_suffix(".md").read_text("utf-8")
    # Differences 2, 3, 2, 3, 2, 3 points: mean 2.5, sd sqrt(0.3), half = 2.5706 sqrt(0.3 / 6)
    assert row(text, "gelu") == {
        "Arm": "gelu", "Mean (%)": "92.50", "sd": "0.55", "Seeds": "6",
        "Difference (points)": "+2.50", "Interval": r"\[1.93, 3.07\]", "Ahead": "6 of 6",
        "p": "0.0312",
    }  # fmt: skip
    assert list(row(text, "**relu**").values())[1:5] == [
        "**90.00**",
        "**0.00**",
        "**6**",
        "**baseline**",
    ]
    assert "gelu is 2.50 points above the baseline \\[1.93, 3.07\\], 6 pairs." in text
    assert "test split (100 examples)" in text


def test_context_cost_and_provenance(page):
    for text in (
        "Sigmoid saturates",
        "caffenet-benchmark",
        "ahead of tanh",
        "python -m launch.sweep --experiment=activations",
        "training.epochs=5",
        "jax 0.10.2",
        "0123456789abcdef",
        "0, 1, 2, 3, 4, 5",
        "A processor, 2 cores",
        "61,706",
        "model.activation = relu",
    ):
        assert text in page.words


def test_csv(broken):
    with (broken / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figures = (
        "validation_accuracy validation_loss test_accuracy test_loss best_validation_accuracy "
        "best_validation_step steps examples_seen seconds train_images_per_second compilations "
        "parameters multiply_adds params_digest error"
    )
    about = ["arm", "block", "seed", "status", "model.activation"]
    assert list(rows[0]) == [*about, *figures.split()]
    assert len(rows) == 5 * 6 - 2  # an unfinished run and a missing one have no row
    by_run = {(row["arm"], row["seed"]): row for row in rows}
    good = by_run["relu", "0"]
    assert good["status"] == "finished"
    assert good["model.activation"] == "relu"
    assert float(good["test_accuracy"]) == pytest.approx(0.971, abs=0.03)
    assert good["steps"] == "115"
    assert good["params_digest"] == "ab" * 32
    assert by_run["gelu", "1"]["error"].endswith("\nline two")
    assert by_run["gelu", "3"]["status"] == "unreadable"
    assert by_run["softplus", "0"]["test_accuracy"] == ""
    assert by_run["tanh", "3"]["model.activation"].startswith(HOSTILE)


def test_rebuilding_gives_the_same_bytes(broken):
    def content():
        files = [*broken.glob("report.*"), *broken.glob("*s.*"), *broken.glob("figures/*")]
        return {path.name: path.read_bytes() for path in files}

    before = content()
    assert len(before) == 2 + 2 + 6  # pages, tables, plots twice
    report.write(broken.parent, final=True)
    assert content() == before
    assert not [path for path in broken.rglob(".*") if path.is_file()]


def test_blocks_have_their_own_baselines_and_tables(tmp_path):
    arms = {"lenet5_modern.relu": 0.9, "lenet5_modern.elu": 0.95, "resnet20.elu": 0.8}
    arms["resnet20.relu"] = 0.7
    after = {"model.activation": "relu", "model.norm.placement": "after"}
    workdirs.make(tmp_path, arms, 3, overrides={"resnet20.relu": after})
    page = Page(report.write(tmp_path, final=True).page.read_text("utf-8"))
    assert page.count("svg") == 6
    assert "lenet5_modern. Baseline relu: " in page.words
    assert "resnet20. Baseline elu: " in page.words
    assert "Largest gain: elu is" in page.words
    assert "No arm is above the baseline. Largest" not in page.words
    assert "the last norm stays before the addition" in page.words
    blocks = reading.load(tmp_path).blocks()
    assert [arm.label for arm in blocks["resnet20"]] == ["elu", "relu"]


def test_crossed_factors_get_a_grid(tmp_path):
    factors = ("model.activation", "model.norm.kind")
    overrides = {
        f"{activation}-{norm}": dict(zip(factors, (activation, norm), strict=True))
        for activation in ("relu", "sigmoid")
        for norm in ("none", "batch", "group")
    }
    means = dict.fromkeys(overrides, 0.9) | {"sigmoid-none": 0.1}
    workdirs.make(tmp_path, means, 2, overrides=overrides, factors=factors)
    page = Page(report.write(tmp_path, final=True).page.read_text("utf-8"))
    assert page.count("svg") == 5
    assert "Heat map" in " ".join(str(attrs) for _, attrs in page.tags)
    shutil.rmtree(tmp_path / "relu-group")
    study = json.loads((tmp_path / "study.json").read_text())
    del study["arms"]["relu-group"]
    (tmp_path / "study.json").write_text(json.dumps(study))
    assert Page(report.write(tmp_path, final=True).page.read_text("utf-8")).count("svg") == 3


def test_measures_are_those_of_the_reported_split(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 3)
    for arm, size in (("relu", 1.0), ("tanh", 0.5)):
        for seed in range(3):
            measures = {
                split: {f"shift_{k}": shown - 0.1 * k for k in (1, 2, 3)} | {"consistency": 0.91}
                for split, shown in (("validation", 0.8), ("test", 0.7))
            }
            layers = {f"conv{n}": {"sd": size**n, "dead": 0.0} for n in range(1, 4)}
            workdirs.edit(
                tmp_path, arm, seed, measures=measures, signals={"start": layers, "end": layers}
            )
    report.write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| relu | 70.00 ± 0.00 | 60.00 ± 0.00 | 50.00 ± 0.00 | 91.00 ± 0.00 |" in text
    for name in ("block-1-shift", "block-1-signal-sd", "block-1-signal-dead"):
        assert f"figures/{name}.svg" in text
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
    assert "validation_shift_1" in (tmp_path / "results.csv").read_text().splitlines()[0]
    assert "test_shift_1" not in (tmp_path / "results.csv").read_text()
    text = report.write(tmp_path, final=True).page.with_suffix(".md").read_text()
    assert "| relu | 60.00 ± 0.00 | 50.00 ± 0.00 |" in text


def test_the_report_warns_of_different_data(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 2)
    page = report.write(tmp_path).page.with_suffix(".md")
    assert "Not the same for all runs." not in page.read_text()
    data = {"name": "folder:/x", "division": {}, "splits": {}}
    for seed, classes in enumerate(("a, b, c", "a, b")):
        workdirs.edit(tmp_path, "relu", seed, runtime={"data": {**data, "class_names": classes}})
    report.write(tmp_path)
    text = " ".join(page.read_text().split())
    assert "Not the same for all runs." in text
    assert "relu/seed-0 and relu/seed-1 were trained on different data" in text


def test_claims_about_missing_arms_are_named(tmp_path):
    stated = [{"kind": "better", "sides": ["relu", "gone"]}]
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 3, claims=stated)
    text = report.write(tmp_path).page.with_suffix(".md").read_text()
    assert "**Not put to the test:** relu beats gone." in text


def test_published_figures_are_shown_beside_the_results(tmp_path):
    published = {"kind": "better", "sides": ["relu", "tanh"], "published": f"+7 points, {HOSTILE}"}
    stated = [published, {"kind": "better", "sides": ["tanh", "relu"]}]
    workdirs.make(tmp_path, {"relu": 0.9, "tanh": 0.8}, 4, claims=stated)
    page = report.write(tmp_path).page
    text = page.with_suffix(".md").read_text()
    (table,) = re.findall(r"beside what was found here.*?\n\n(.*?)\n\n", text, re.DOTALL)
    assert table.splitlines()[0] == "| Claim | Here | Published |"
    (row,) = table.splitlines()[2:]
    assert re.match(r"\| relu beats tanh \| \+\d+\.\d\d points .* \| \+7 points, ", row)
    assert HOSTILE not in page.read_text()


def test_differences_have_their_unit(tmp_path):
    points = {"kind": "better", "sides": ["relu", "tanh"]}
    others = [points | {"metric": "loss"}, {"kind": "diverges", "sides": ["tanh"]}]
    arms = {"relu": 0.9, "tanh": 0.8}
    for name, stated, head in (
        ("alike", [points], "| Difference (points) |"),
        ("mixed", [points, *others], "| Difference |"),
    ):
        workdirs.make(tmp_path / name, arms, 4, claims=stated)
        text = report.write(tmp_path / name).page.with_suffix(".md").read_text()
        assert head in text
    for unit in ("points", "nats", "% of runs"):
        assert re.search(rf"\| (undecided|supported|contradicted) \| [^|]*\d {unit} \|", text)


def test_the_report_says_how_many_runs_a_share_needs(tmp_path):
    stated = [{"kind": "diverges", "sides": ["tanh"]}]
    for seeds, expected in ((4, "4 runs cannot show it, even if all do: it takes 5"), (6, "")):
        workdir = workdirs.make(
            tmp_path / str(seeds), {"relu": 0.9, "tanh": None}, seeds, claims=stated
        )
        text = report.write(workdir).page.with_suffix(".md").read_text()
        assert expected in text
        assert ("Undecided: tanh diverges" in text) == (seeds == 4)


@pytest.mark.parametrize(
    ("arms", "seeds", "plots", "expected"),
    [
        ({"relu": 0.97}, 1, 2, "Baseline relu: 9"),
        ({"relu": 0.97, "elu": 0.98}, 1, 3, "1 pair: no interval"),
        ({"relu": None, "elu": None}, 2, 3, "Baseline relu: 10.00"),
        ({"relu": None, "elu": 0.9}, 2, 3, "Largest gain: elu"),
        ({"relu": 0.1, "elu": 0.1, "x" * 90: 0.1}, 2, 3, "x" * 90),
        ({"relu": 0.97}, 0, 0, "No run has finished."),
    ],
)
def test_sparse_studies(tmp_path, arms, seeds, plots, expected):
    page = Page(
        report.write(workdirs.make(tmp_path, arms, seeds), final=True).page.read_text("utf-8")
    )
    assert expected in page.words
    assert page.count("svg") == plots


def test_equal_differences_are_noted(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "elu": 0.9}, 2)
    for seed in range(2):
        split = {"accuracy": 0.9, "loss": 0.3, "examples": 100}
        workdirs.edit(tmp_path, "relu", seed, test=split)
        workdirs.edit(tmp_path, "elu", seed, test=split | {"accuracy": 0.95})
    page = Page(report.write(tmp_path, final=True).page.read_text("utf-8"))
    assert "All differences are equal for elu" in page.words


def test_only_the_final_report_shows_the_test_split(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "elu": 0.9}, 2)
    for seed in range(2):
        for arm in ("relu", "elu"):
            split = {"accuracy": 0.123, "loss": 0.321, "examples": 360}
            workdirs.edit(tmp_path, arm, seed, test=split)
    page = Page(report.write(tmp_path).page.read_text("utf-8"))
    assert "accuracy on the validation split (144 examples)" in page.words
    files = [tmp_path / "results.csv", tmp_path / "report.md", tmp_path / "report.html"]
    for path in files:
        assert "12.3" not in path.read_text()
        assert "0.123" not in path.read_text()
    report.write(tmp_path, final=True)
    for path in files:
        final = (tmp_path / "final" / path.name).read_text()
        assert "12.3" in final or "0.123" in final
        assert "12.3" not in path.read_text()


@pytest.mark.parametrize(
    "result",
    [
        {"status": "done"},
        {"status": "finished", "test": None},
        {"status": "finished", "test": {"accuracy": "0.9"}},
        {"status": "finished", "test": {"accuracy": 97.1}},
    ],
)
def test_invalid_results_are_unreadable(tmp_path, result):
    workdirs.make(tmp_path, {"relu": 0.9}, 1)
    (tmp_path / "relu/seed-0/result.json").write_text(json.dumps(result))
    (run,) = reading.load(tmp_path).runs
    assert run.status == "unreadable"
    assert run.error.startswith("result.json: ")


def test_extensions_define_the_requested_runs(tmp_path):
    workdirs.make(tmp_path, {"relu": 0.9, "elu": 0.9}, 1)
    study = json.loads((tmp_path / "study.json").read_text())
    study["seeds"] = [0, 7]
    study["extensions"].append({"date": "2025-04-01", "arms": ["elu"], "seeds": [7]})
    (tmp_path / "study.json").write_text(json.dumps(study))
    runs = [(run.arm, run.seed, run.status) for run in reading.load(tmp_path).runs]
    assert runs == [("relu", 0, "finished"), ("elu", 0, "finished"), ("elu", 7, "missing")]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"arms": 3}', '{"arms": {"relu": 1}}'])
def test_no_study(tmp_path, text):
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(UserError, match=r"study\.json") as caught:
        report.write(tmp_path, final=True)
    assert "\n" not in str(caught.value)


def test_markdown_is_escaped():
    assert markdown._escape("a|b *c* _d_ e_f <i> [x](y) `z`") == (
        r"a\|b \*c\* \_d\_ e_f &lt;i&gt; \[x\](y) \`z\`"
    )
    assert markdown._escape("- no list") == r"\- no list"


def test_needs_neither_jax_nor_pyplot():
    code = (
        "import sys; import cnnjax.report.ablation; "
        "print([name for name in ('jax', 'flax', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
