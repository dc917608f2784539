"""Names of data sets that TensorFlow Datasets does not know."""

import pytest

from cnnjax.data import source
from cnnjax.errors import UserError


@pytest.mark.parametrize(
    ("name", "hint"), [("cifar-10", "Did you mean 'cifar10'"), ("../../x", "All names: ")]
)
def test_a_name_that_cannot_be_one_is_told_with_the_nearest(name, hint):
    with pytest.raises(UserError, match=f"data.name: '{name}' is unknown to .*{hint}"):
        source.prepare(name)
