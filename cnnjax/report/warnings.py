"""What the reader of a block's table must be warned of."""

from cnnjax.ablation import results
from cnnjax.ablation.blocks import Block
from cnnjax.metric import PERCENT, Metric
from cnnjax.report import words
from cnnjax.report.document import Element, Paragraph

MOST = 4
"""How many runs are named."""


def of(block: Block, primary: Metric) -> list[Element]:
    """Networks that are one, runs that were made differently, predictions that are lost, trainings
    that were too short, and intervals without width; nothing where there is none of it."""
    runs = [run for arm in block.arms for run in arm.arm.runs]
    told = [
        *(("The same network.", _same(names)) for names in _same_weights(block)),
        (
            "Not the same for all runs.",
            " ".join(
                filter(None, (results.data_differences(runs), *results.setting_differences(runs)))
            ),
        ),
        ("Predictions are lost.", _lost(block)),
        ("Not at the end of the road.", _rising(block, primary)),
    ]
    elements: list[Element] = [Paragraph(text, lead, "warning") for lead, text in told if text]
    equal = [arm.arm.label for arm in block.arms if arm.versus and arm.versus.sd == 0]
    if equal:
        text = (
            f"All differences are equal for {words.listing(equal)}: an interval without width "
            "says that no seed tells otherwise, not that there is no doubt."
        )
        elements.append(Paragraph(text, kind="note"))
    return elements


def _same(names: list[str]) -> str:
    return (
        f"{words.listing(names)} ended with the same weights in every seed: what they differ "
        "in has no effect on this network."
    )


def _same_weights(block: Block) -> list[list[str]]:
    """Arms that are one: in every seed the same final weights."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for result in block.arms:
        digests = tuple((run.seed, run.result.params_digest) for run in result.arm.runs)
        if digests and all(digest for _, digest in digests):
            groups.setdefault(digests, []).append(result.arm.label)
    return [names for names in groups.values() if len(names) > 1]


def _lost(block: Block) -> str:
    if not block.without_predictions:
        return ""
    named = list(block.without_predictions[:MOST])
    others = len(block.without_predictions) - len(named)
    named += [words.count(others, "other run")] if others else []
    return (
        f"Those of {words.listing(named)} are missing or damaged, so that differences from these "
        "runs are not given for other images. The sweep's command evaluates runs again that have a "
        "checkpoint; of damaged predictions the file has to be removed first."
    )


def _rising(block: Block, primary: Metric) -> str:
    rising = [arm.arm.label for arm in block.arms if arm.improving]
    if not rising:
        return ""
    rose = "rose by half a point" if primary.unit == PERCENT else "got better by 0.5 %"
    return (
        f"{words.listing(rising)}: validation {primary.title} still {rose} or more in "
        "the last quarter of training; a longer training may change the order."
    )
