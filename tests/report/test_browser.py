"""The report in a real browser: Chromium, without a network."""

import shutil

import pytest
import workdirs

from cnnjax.report import ablation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    arms = {"relu": 0.95, "tanh": 0.93, "sigmoid": None, "gelu": 0.96, "a" * 60: 0.9}
    claims = [
        {"kind": "better", "sides": ["relu", "tanh"], "source": "the lecture"},
        {"kind": "diverges", "sides": ["sigmoid"]},
    ]
    workdirs.make(workdir, arms, 6, claims=claims)
    return ablation.write(workdir, final=True).page.as_uri()


@pytest.fixture
def visit(browser, address):
    """Opens the report in a window of a size and scheme; nothing may complain or be asked for."""
    contexts, complaints = [], []

    def opened(width=1200, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url == address or complaints.append(request.url),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, table, number):
    cells = page.locator("table").nth(table).locator(f"tbody tr td:nth-child({number})")
    return cells.all_inner_texts()


def test_verdicts_come_first_and_plots_have_a_size(visit):
    page = visit()
    headings = page.locator("h2").all_inner_texts()
    assert headings[:3] == ["Verdicts", "Summary", "Results"]
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert len(sizes) == 4
    assert min(sizes) > 250


def test_tables_sort(visit):
    page = visit()
    place = page.locator("table").count() - 3  # results, arms, cost
    table = page.locator("table").nth(1)
    before = column(page, 1, 1)
    assert "relu" in before[0]
    button = table.locator("th button").nth(1)
    button.click()
    means = [float(text) for text in column(page, 1, 2)]
    assert means == sorted(means, reverse=True)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    button.press("Enter")
    assert [float(text) for text in column(page, 1, 2)] == sorted(means)
    button.click()
    assert column(page, 1, 1) == before
    assert place > 0


def test_missing_figures_stay_at_the_end(visit):
    page = visit()
    head = page.locator("table").nth(1).locator("th button")
    names = head.all_inner_texts()
    difference = names.index("Difference (points)")
    for _ in range(2):
        head.nth(difference).click()
        assert column(page, 1, difference + 1)[-1] == "baseline"


def test_a_phone_can_show_it(visit):
    page = visit(width=375)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375
    assert page.locator("figure svg").first.bounding_box()["width"] > 250


def test_dark_mode_changes_paper_ink_and_plots(visit):
    def colours(page):
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('svg text')).fill]"
        )

    light, dark = colours(visit()), colours(visit(scheme="dark"))
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert dark[0] == "rgb(21, 24, 23)"
