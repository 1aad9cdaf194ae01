"""
Bars and histograms of letters.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.cli.drawing import bar, buckets, quantile

VALUES = st.lists(st.floats(1e-6, 1e6), min_size=1).map(sorted)


@pytest.mark.parametrize(
    ("share", "shown"), [(0, ""), (1e-9, "▏"), (0.5, "██"), (0.53, "██▏"), (1, "████"), (7, "████"), (-1, "")]
)
def test_bars(share: float, shown: str) -> None:
    assert bar(share, 4) == shown


@given(VALUES)
def test_every_value_is_in_one_bucket(values: list[float]) -> None:
    found = buckets(values)
    assert sum(number for _, number in found) == len(values)
    lower = 0.0
    for bound, number in found:
        assert number == sum(lower < each <= bound for each in values)
        lower = bound
    assert found[0][1] > 0
    assert found[-1][1] > 0


@given(VALUES, st.floats(0, 1))
def test_quantiles_are_values(values: list[float], share: float) -> None:
    assert quantile(values, share) in values
    assert quantile(values, 0) == values[0]
    assert quantile(values, 1) == values[-1]
