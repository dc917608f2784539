"""The names that the schema validates against are the names that exist."""

import pytest

from cnnjax import catalog, config
from cnnjax.analysis import probes
from cnnjax.models import MODELS
from cnnjax.nn.activations import ACTIVATIONS
from cnnjax.nn.initializers import INITIALIZERS
from cnnjax.nn.normalization import NORMS
from cnnjax.nn.pooling import POOLINGS

TABLES = {
    "ACTIVATIONS": ACTIVATIONS,
    "INITIALIZERS": INITIALIZERS,
    "NORMS": NORMS,
    "POOLINGS": POOLINGS,
    "MODELS": MODELS,
    "MEASURES": probes.MEASURES,
    "SIGNALS": probes.SIGNALS,
}


@pytest.mark.parametrize("table", TABLES)
def test_the_catalog_is_the_registry(table):
    assert tuple(getattr(catalog, table)) == tuple(TABLES[table])


@pytest.mark.parametrize("model", catalog.MODELS)
def test_published_choices_leave_no_default(model):
    resolved = config.resolve(config.create({"model": {"name": model}}))
    values = config.flat(resolved)
    assert "default" not in values.values()
    assert {path: values[f"model.{path}"] for path in catalog.MODELS[model]} == catalog.MODELS[
        model
    ]


def test_fields_that_are_set_are_not_replaced():
    chosen = config.Model(name="resnet20", pooling="blur", norm=config.Norm(kind="none", alpha=0.3))
    resolved = config.resolve_model(chosen)
    assert (resolved.pooling, resolved.norm.kind, resolved.norm.alpha) == ("blur", "none", 0.3)
    assert (resolved.norm.placement, resolved.activation) == ("before", "relu")
