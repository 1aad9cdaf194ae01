import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.figures import Family, Histogram, Samples, histogram, merged

UP = Family("up", "gauge", "Whether it is up.", ("node",))
TIMES = Family("time_seconds", "histogram", "How long it took.")


@given(st.lists(st.integers(0, 20)))
def test_a_value_is_in_the_first_bucket_that_takes_it(values: list[int]) -> None:
    counted = histogram((5.0, 10.0))
    for value in values:
        counted.add(value)
    low, middle = (sum(value <= bound for value in values) for bound in (5, 10))
    assert counted.counts == [low, middle - low, len(values) - middle]
    assert counted.total == sum(values)


@pytest.mark.parametrize(
    "line",
    [
        b'{"bounds":[1.0],"counts":[1]}',
        b'{"bounds":[1.0],"counts":[1,2,3]}',
        b'{"bounds":[2.0,1.0],"counts":[1,2,3]}',
        b'{"bounds":[1.0],"counts":[1,-2]}',
    ],
)
def test_what_is_no_histogram_is_not_taken_for_one(line: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=Histogram)


@pytest.mark.parametrize(
    ("family", "labels", "value"),
    [
        (UP, (), 1.0),
        (UP, ("0", "1"), 1.0),
        (UP, ("0",), histogram()),
        (TIMES, (), 1.0),
    ],
)
def test_a_value_fits_its_family(family: Family, labels: tuple[str, ...], value: float | Histogram) -> None:
    with pytest.raises(ValueError, match=f"does not fit {family.name}"):
        Samples(family, [(labels, value)])


@pytest.mark.parametrize("name", ["Upper", "with-dash", "", "9", "a" * 101])
def test_a_name_is_one_that_prometheus_takes(name: str) -> None:
    encoded = msgspec.json.encode({"name": name, "kind": "gauge", "help": ""})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(encoded, type=Family)


def test_a_family_is_shown_once_with_the_values_of_all() -> None:
    other = Family("other", "gauge", "Another one.")
    again = Family("up", "gauge", "The same in other words.", ("node",))
    found = merged(
        [
            Samples(UP, [(("0",), 1.0)]),
            Samples(other, [((), 5.0)]),
            Samples(again, [(("0",), 7.0), (("1",), 0.0)]),
        ]
    )
    assert found == [Samples(UP, [(("0",), 1.0), (("1",), 0.0)]), Samples(other, [((), 5.0)])]


@pytest.mark.parametrize(
    "other", [Family("up", "counter", "", ("node",)), Family("up", "gauge", "", ("process",))]
)
def test_of_families_that_only_share_a_name_the_first_is_shown(other: Family) -> None:
    first = Samples(UP, [(("0",), 1.0)])
    assert merged([first, Samples(other, [(("1",), 1.0)])]) == [first]
