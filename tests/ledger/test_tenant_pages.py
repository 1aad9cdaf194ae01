import random
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcounter.ledger.ledger import Ledger
from dcounter.ledger.steps import Steps, StepSizes, finish
from dcounter.ledger.tenant_pages import Largest, PrefixSum, TenantPage
from tests.support.entries import Row, Writer, crowded, recount

prefixes = st.text("ab\ufffd\U00010000", max_size=2)
limits = st.integers(1, 5)


def _by_name(rows: Sequence[Row], after: str, prefix: str, limit: int) -> TenantPage:
    named = sorted(recount(rows).items(), key=lambda each: each[0].encode())
    behind = [each for each in named if each[0].startswith(prefix) and each[0].encode() > after.encode()]
    return TenantPage(behind[:limit], len(behind) > limit)


def _by_count(rows: Sequence[Row], after: tuple[int, str] | None, prefix: str, limit: int) -> TenantPage:
    ranked = sorted(
        (-count, name.encode(), name) for name, count in recount(rows).items() if name.startswith(prefix)
    )
    if after is not None:
        ranked = [each for each in ranked if each[:2] > (-after[0], after[1].encode())]
    return TenantPage([(name, -count) for count, _, name in ranked[:limit]], len(ranked) > limit)


def _sum(rows: Sequence[Row], prefix: str) -> PrefixSum:
    counts = [count for name, count in recount(rows).items() if name.startswith(prefix)]
    return PrefixSum(sum(counts), len(counts))


@given(
    crowded,
    st.lists(crowded, max_size=8),
    st.lists(
        st.tuples(prefixes, st.text("ab\ufffd\U00010000", max_size=3), st.integers(0, 4), limits), max_size=4
    ),
)
def test_every_answer_is_that_of_one_moment(
    rows: list[Row], later: list[list[Row]], questions: list[tuple[str, str, int, int]]
) -> None:
    # The order of names is made for the first question, and used again for those that follow.
    writer = Writer(rows, later)
    ledger = writer.ledger
    for prefix, name, count, limit in questions:
        page = writer.result(ledger.tenants_by_name(name, prefix, limit))
        assert page == _by_name(writer.rows, name, prefix, limit)
        for after in (None, (count, name)):
            page = writer.result(ledger.tenants_by_count(after, prefix, limit))
            assert page == _by_count(writer.rows, after, prefix, limit)
        assert writer.result(ledger.prefix_sum(prefix)) == _sum(writer.rows, prefix)
        if writer.later:
            writer.write(writer.later.pop())


def _names(ledger: Ledger, last: TenantPage | None, limit: int) -> Steps[TenantPage]:
    return ledger.tenants_by_name(last.tenants[-1][0] if last else "", "", limit)


def _ranks(ledger: Ledger, last: TenantPage | None, limit: int) -> Steps[TenantPage]:
    return ledger.tenants_by_count((last.tenants[-1][1], last.tenants[-1][0]) if last else None, "", limit)


def _check_pages(
    question: Callable[[Ledger, TenantPage | None, int], Steps[TenantPage]], writer: Writer, limit: int
) -> None:
    seen: list[tuple[str, int]] = []
    page: TenantPage | None = None
    while page is None or page.more:
        page = writer.result(question(writer.ledger, page, limit))
        seen += page.tenants
        if writer.later:
            writer.write(writer.later.pop())

    same = [each for each in recount(writer.rows).items() if each[0] not in writer.restless]
    assert sorted(each for each in seen if each[0] not in writer.restless) == sorted(same)


@given(crowded, st.lists(crowded, max_size=12), limits)
def test_pages_by_name_neither_skip_nor_repeat_a_tenant_that_did_not_change(
    rows: list[Row], later: list[list[Row]], limit: int
) -> None:
    _check_pages(_names, Writer(rows, later), limit)


@given(crowded, st.lists(crowded, max_size=12), limits)
def test_pages_by_count_neither_skip_nor_repeat_a_tenant_that_did_not_change(
    rows: list[Row], later: list[list[Row]], limit: int
) -> None:
    _check_pages(_ranks, Writer(rows, later), limit)


def test_long_work_that_is_given_up_is_not_lost() -> None:
    writer = Writer([Row(item, 0, f"{item}") for item in range(100)])
    steps = writer.ledger.tenants_by_name()
    for _ in range(5):
        next(steps)
    steps.close()

    def steps_of(steps: Steps[TenantPage]) -> int:
        return sum(1 for _ in steps)

    whole = steps_of(Writer(writer.rows).ledger.tenants_by_name())
    assert steps_of(writer.ledger.tenants_by_name()) == whole - 5
    # And the order is there for the next.
    assert steps_of(writer.ledger.tenants_by_name()) == 0


def test_two_questions_share_the_work() -> None:
    writer = Writer([Row(item, 0, f"{item}") for item in range(100)])
    first, second = (writer.ledger.tenants_by_name(limit=3) for _ in range(2))
    results = []
    open_ = [first, second]
    while open_:
        for steps in tuple(open_):
            try:
                next(steps)
            except StopIteration as stop:
                results.append(stop.value)
                open_.remove(steps)
    assert results == [TenantPage([("0", 1), ("1", 1), ("10", 1)], more=True)] * 2


def test_many_tenants_that_come_and_go() -> None:
    chance = random.Random(1)
    ledger = Ledger()
    rows: dict[int, str] = {}
    # Few changes are put in, and many make a new order worth while.
    for stamp, changes in enumerate([30_000, 10, 3_000, 500, 0, 25_000, 7_000]):
        moved = {chance.randrange(40_000): f"acme/{chance.randrange(10**6)}" for _ in range(changes)}
        ledger.merge(list(moved), [stamp] * len(moved), list(moved.values()))
        rows |= moved
        names = sorted(set(rows.values()))
        middle = names[len(names) // 2]

        page = finish(ledger.tenants_by_name(after=middle))
        assert [name for name, _ in page.tenants] == names[len(names) // 2 + 1 :][:1000]
        assert finish(ledger.prefix_sum("acme/")) == PrefixSum(len(rows), len(names))
        ranked = finish(ledger.tenants_by_count(limit=50)).tenants
        counted = [Row(item, 0, name) for item, name in rows.items()]
        assert TenantPage(ranked, more=True) == _by_count(counted, None, "", 50)


def test_an_order_that_nothing_reads_is_dropped() -> None:
    ledger = Ledger()
    finish(ledger.tenants_by_name())
    items = range(10_000)
    for stamp in range(2):
        ledger.merge(items, [stamp] * len(items), [f"{stamp} {item}" for item in items])
    ledger.settle()
    assert ledger._pages._order.changed == {}  # noqa: SLF001 - it shows nowhere else
    assert finish(ledger.prefix_sum("1")) == PrefixSum(10_000, 10_000)


def _merge_names(ledger: Ledger, items: range) -> None:
    ledger.merge(items, [1] * len(items), [f"{item}" for item in items])
    ledger.settle()


def test_an_order_is_ready_although_each_step_finds_many_new_names() -> None:
    ledger = Ledger(sizes=StepSizes(names=64, aside=16, put_in=8))
    _merge_names(ledger, range(1_000))
    steps = ledger.tenants_by_name(limit=1)
    written, page = 1_000, None
    while page is None and written < 100_000:
        try:
            next(steps)
        except StopIteration as stop:
            page = stop.value
        else:
            _merge_names(ledger, range(written, written + 100))
            written += 100
    assert page == TenantPage([("0", 1)], more=True)


def test_names_that_are_put_into_the_order_stay_there_when_the_question_is_given_up() -> None:
    ledger = Ledger(sizes=StepSizes(names=64, aside=16, put_in=8))
    _merge_names(ledger, range(1_000))
    written, pages = 1_000, list[TenantPage]()
    while not pages and written < 10_000:
        # Each of them has time for three steps only.
        steps = ledger.tenants_by_name(limit=1)
        try:
            for _ in range(3):
                next(steps)
                _merge_names(ledger, range(written, written + 40))
                written += 40
        except StopIteration as stop:
            pages.append(stop.value)
        steps.close()
    assert pages == [TenantPage([("0", 1)], more=True)]


def test_an_order_that_is_given_up_half_made_is_dropped_like_another() -> None:
    ledger = Ledger(sizes=StepSizes(names=64, aside=16))
    _merge_names(ledger, range(1_000))
    steps = ledger.tenants_by_name()
    next(steps)
    steps.close()
    _merge_names(ledger, range(1_000, 2_000))
    assert ledger._pages._order.changed == {}  # noqa: SLF001 - it shows nowhere else
    assert len(finish(ledger.tenants_by_name(limit=5_000)).tenants) == 2_000


def test_many_tenants_with_the_same_count() -> None:
    # So many that only an order of names tells which come first.
    names = [f"{number:06}" for number in range(30_000)]
    random.Random(1).shuffle(names)
    ledger = Ledger()
    ledger.merge(range(len(names)), range(len(names)), names)
    ledger.merge([-1, -2, -3], [1, 1, 1], ["029999", "029999", "more"])

    first = finish(ledger.tenants_by_count(limit=3))
    assert first == TenantPage([("029999", 3), ("000000", 1), ("000001", 1)], more=True)
    assert finish(ledger.tenants_by_count((1, "000001"), limit=1)).tenants == [("000002", 1)]
    assert finish(ledger.tenants_by_count((1, "029998"), limit=2)) == TenantPage([("more", 1)], more=False)


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=6),
    limits,
)
def test_the_largest_of_counts_that_come_in_parts(parts: list[list[int]], limit: int) -> None:
    best = Largest(limit)
    begin = 0
    for part in parts:
        best.add(begin, np.array(part, np.int64))
        begin += len(part)
    counts = [count for part in parts for count in part]
    expected = sorted(
        (place for place, count in enumerate(counts) if count), key=lambda place: -counts[place]
    )
    assert best.places.tolist() == sorted(expected[:limit])
    assert best.counts.tolist() == [counts[place] for place in sorted(expected[:limit])]
