"""Claims: what they are about, what is refused, and how they are kept."""

import json

import pytest

from cnnjax.ablation import claims
from cnnjax.ablation.claims import (
    Claim,
    better,
    chance_level,
    equivalent,
    interaction,
    monotone,
)
from cnnjax.ablation.experiment import Experiment
from cnnjax.errors import UserError

ARMS = {
    f"{block}.{activation}_{norm}": {
        "model.name": block, "model.activation": activation, "model.norm.kind": norm
    }
    for block in ("lenet5_modern", "resnet20")
    for activation in ("relu", "tanh")
    for norm in ("none", "batch")
}  # fmt: skip


def experiment(*stated, arms=ARMS):
    return Experiment(name="e", question="q", arms=arms, claims=stated)


def test_a_name_without_a_block_matches_every_block():
    claim = better("relu_none", "tanh_none")
    assert claims.blocks_of(claim, ARMS) == ["lenet5_modern", "resnet20"]
    assert claims.arms_of("relu_none", "resnet20", ARMS) == ("resnet20.relu_none",)
    one = better("resnet20.relu_none", "tanh_none")
    assert claims.blocks_of(one, ARMS) == ["resnet20"]
    limited = better("relu_none", "tanh_none", blocks=("resnet20",))
    assert claims.blocks_of(limited, ARMS) == ["resnet20"]


def test_levels_match_all_arms_that_have_them():
    side = {"model.norm.kind": "batch"}
    assert claims.arms_of(side, "resnet20", ARMS) == ("resnet20.relu_batch", "resnet20.tanh_batch")


def test_an_interaction_has_four_sides():
    claim = interaction(
        {"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "tanh")}
    )
    assert [tuple(side.values()) for side in claim.sides] == [
        ("none", "relu"), ("batch", "relu"), ("none", "tanh"), ("batch", "tanh"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (lambda: better("relu_nome", "tanh_none"), "arm: unknown 'relu_nome'.*relu_none"),
        (lambda: better({"model.norm.kid": 1}, "tanh_none"), "factor: unknown 'model.norm.kid'"),
        (lambda: better({"model.norm.kind": "layer"}, "tanh_none"), "no arm has 'layer'"),
        (lambda: better("relu_none", "tanh_none", by=-1), "margin: -1 is not valid.*points"),
        (
            lambda: better("relu_none", "tanh_none", metric="acuracy"),
            "metric: unknown 'acuracy'. Did you mean 'accuracy'",
        ),
        (lambda: better("lenet5_modern.relu_none", "resnet20.tanh_none"), "no block has arms"),
        (lambda: better("relu_none", "tanh_none", blocks=("vgg",)), "block: unknown 'vgg'"),
        (lambda: equivalent("relu_none", "tanh_none", within=0, reason="x"), "margin above 0"),
        (lambda: equivalent("relu_none", "tanh_none", within=1, reason=""), "and a reason"),
        (lambda: monotone(["relu_none"]), "at least 2 sides, not 1"),
        (lambda: Claim("beter", ("relu_none", "tanh_none")), "'beter' is no kind of claim"),
        (lambda: Claim("better", ("relu_none",)), "needs 2 sides, not 1"),
        (lambda: monotone(5), "5 is not a list of levels"),
        (lambda: monotone(range(10**9)), "1,000,000,000 levels; allowed: at most 1,000"),
        (lambda: interaction("a", "b"), "'a' is not one path with two levels"),
        (lambda: better("relu_none", "tanh_none", metric=5), "metric: 5 is not text"),
        (lambda: better("relu_none", "tanh_none", blocks=5), "blocks: 5 is not a list of names"),
        (lambda: better("relu_none", "tanh_none", metric="measures.shift_1"), "add probes="),
        (lambda: better("relu_none", "tanh_none", metric="measures.shift"), "mean 'shift_6'"),
        (lambda: chance_level("relu_none", share=1), "share: 1 is not valid"),
        (lambda: interaction({"a": (1, 2)}, {"b": (1,)}), "not one path with two levels"),
        (lambda: "relu beats tanh", "is not a claim"),
        (lambda: chance_level({"model.norm.kind": "none"}), "share their seeds.*name one arm"),
        (lambda: equivalent("relu_none", "tanh_none"), "needs a margin above 0 and a reason"),
        (lambda: chance_level("relu_none", share="x"), "share: 'x' is not valid"),
        (
            lambda: better("relu_none", "tanh_none", share=0.3),
            "share: means .* to diverges, chance",
        ),
        (lambda: chance_level("relu_none", metric="loss"), "metric: means nothing here"),
        (lambda: better("relu_none", "tanh_none", direction="positive"), "belongs to interaction"),
        (lambda: better("relu_none", "tanh_none", expected=3), "expected: 3 is neither"),
        (lambda: better("relu_none", "tanh_none", published=3), "published: 3 is not text"),
        (lambda: better("relu_none", "tanh_none", source=None), "source: None is not text"),
        (lambda: better("relu_none", "tanh_none", publishd="x"), "'publishd'.*mean 'published'"),
    ],
)
def test_claims_that_no_result_could_decide_are_refused(claim, message):
    with pytest.raises(UserError, match=message) as caught:
        experiment(claim())
    assert "\n" not in str(caught.value).strip()


def test_claims_survive_to_dict_and_from_dict():
    stated = (
        equivalent("relu_none", "tanh_none", within=0.5, reason="why", source="lecture"),
        interaction({"model.norm.kind": ("none", "batch")}, {"model.activation": ("relu", "tanh")}),
    )
    for claim in experiment(*stated).claims:
        read = claims.from_dict(json.loads(json.dumps(claims.to_dict(claim) | {"post_hoc": True})))
        assert read.key == claim.key
        assert read == claim


def test_numbers_in_text_fields_become_text():
    values = {"kind": "better", "sides": ["a", "b"], "published": 0.41}
    assert claims.from_dict(values).published == "0.41"


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "better", "sides": ["a", "b"], "margin": "3"},
        {},
        {"kind": "better"},
        {"kind": "best", "sides": []},
        {"kind": "better", "sides": 3},
        [],
    ],
)
def test_values_that_are_no_claim_are_refused(values):
    with pytest.raises(ValueError, match="makes no sense"):
        claims.from_dict(values)
