from collections.abc import Sequence
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.daemon.option_table import MOST_TENANTS
from dcounter.daemon.tenant_figures import TenantFigures
from dcounter.errors import NotApplied
from dcounter.figures import Histogram
from dcounter.store import Consistency, Counts, Items
from dcounter.testing.http import MemoryStore


class SlowStore(MemoryStore):
    """
    A store that answers no question about several tenants.
    """

    async def count_many(
        self, tenants: Sequence[str], *, consistency: Consistency, after: str | None = None
    ) -> Counts:
        await Deferred()
        raise AssertionError


def filled(store: MemoryStore, owned: dict[str, int]) -> MemoryStore:
    names = [tenant for tenant, number in owned.items() for _ in range(number)]
    Deferred.fromCoroutine(store.store(Items(list(range(len(names))), names), ack="node"))
    return store


def counted(store: MemoryStore, *wanted: str, seconds: float = 0.0) -> dict[str, float] | None:
    clock = Clock()
    figures = TenantFigures(store, wanted, clock, patience_s=0.8)
    done = Deferred.fromCoroutine(figures.samples())
    clock.advance(seconds)
    answers: list[dict[str, float]] = []
    for samples in cast(Any, done).result:
        values = {labels[0]: value for labels, value in samples.values}
        answers.append({name: value for name, value in values.items() if not isinstance(value, Histogram)})
    assert not clock.getDelayedCalls()
    return answers[0] if answers else None


OWNED = {"acme": 3, "shop/a": 1, "shop/b": 2, "other": 5}


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ((), None),
        (("acme",), {"acme": 3}),
        (("acme", "nobody"), {"acme": 3, "nobody": 0}),
        (("shop/*",), {"shop/b": 2, "shop/a": 1}),
        (("shop/*", "acme", "shop/b"), {"acme": 3, "shop/b": 2, "shop/a": 1}),
        (("*",), {"other": 5, "acme": 3, "shop/b": 2, "shop/a": 1}),
        (("none/*",), {}),
    ],
)
def test_only_tenants_that_are_named_are_shown(wanted: Sequence[str], shown: dict[str, int] | None) -> None:
    found = counted(filled(MemoryStore(), OWNED), *wanted)
    assert found == shown
    assert found is None or shown is None or list(found) == list(shown)


def test_there_are_never_more_than_a_bound() -> None:
    store = filled(MemoryStore(), {f"t{i}": 1 for i in range(MOST_TENANTS + 50)})
    found = counted(store, "*", "named")
    assert found is not None
    assert len(found) == MOST_TENANTS
    assert found["named"] == 0


def test_a_store_that_refuses_or_is_slow_holds_nothing_up() -> None:
    store = filled(MemoryStore(), OWNED)
    store.refusal = NotApplied("no", retry_after=1)
    assert counted(store, "acme", "shop/*") == {}
    slow = filled(SlowStore(), OWNED)
    assert counted(slow, "acme", "shop/*", seconds=0.9) == {"shop/b": 2, "shop/a": 1}
