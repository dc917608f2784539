"""How to read the verdicts of a report, for somebody who has nothing but the page."""

from cnnjax.ablation.statistics import ALPHA
from cnnjax.metric import ACCURACY, Metric
from cnnjax.report.document import Definitions, Paragraph, Section

TITLE = "How to read this"


def section(primary: Metric = ACCURACY) -> Section:
    """What the words and numbers of a verdict mean."""
    ends = ""
    if primary == ACCURACY:
        ends = ": at 100 points between two accuracies, at 200 between two such differences"
    pairs = (
        (
            "Verdicts",
            f"Supported: the corrected p of the claim is below {ALPHA}. Contradicted: that of its "
            "contrary is. Undecided: so many seeds cannot tell; it does not mean that there is "
            "nothing. Open: runs are missing.",
        ),
        (
            "Seeds",
            "All arms share their seeds: weights, order of the data, augmentation and dropout are "
            "drawn by seed. So arms are compared seed by seed, and what seeds have in common "
            "cancels. A tie is a seed in which both score the same.",
        ),
        (
            "Intervals",
            "[low, high] beside a mean difference: Student's t interval of the paired differences, "
            "95 % where nothing else is said. It is about these images and other seeds, and ends "
            f"where the difference can be no larger{ends}.",
        ),
        (
            "Other images",
            "The same for other images too, as if drawn where these were; it stands there where it "
            "is known and not the same.",
        ),
        (
            "p",
            "How likely such a result would be if the claim did not hold. Corrected: for all "
            "claims of the study together (Holm), so that with 95 % none is supported wrongly.",
        ),
        (
            "Margins",
            "A claim with a margin is held against the margin, not against zero: beats by more "
            "than it, differs by less than it.",
        ),
        (
            "Diverged runs",
            "Score chance, which is the best constant prediction. That counts against an arm and "
            "never for it.",
        ),
        ("Post hoc", "Claimed, or added, after results were there."),
    )
    more = (
        "Why it is done like this, and how often such verdicts are right by simulation, is written "
        "in docs/statistics.md of cnnjax."
    )
    return Section(TITLE, (Definitions(pairs), Paragraph(more, kind="note")))
