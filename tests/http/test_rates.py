"""
The bucket of permits: against what it promises, whatever the times of the requests.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcounter.http.rates import Bucket, Rate

RATES = st.builds(Rate, st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 1024.0]), st.integers(1, 20))
# Times that floats hold exactly, so that the model below is exact.
PAUSES = st.lists(st.integers(0, 400).map(lambda eighths: eighths / 8), max_size=60)


class TestPermits:
    def test_begin_full_and_come_back(self) -> None:
        bucket = Bucket(Rate(per_s=2.0, burst=3), 100.0)
        assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]
        assert bucket.take(100.25) == 0.25
        assert bucket.take(100.5) == 0
        assert bucket.take(100.5) == 0.5
        # Never more than a burst, however long the silence.
        assert [bucket.take(1e6) for _ in range(4)] == [0, 0, 0, 0.5]

    def test_to_look_takes_nothing(self) -> None:
        bucket = Bucket(Rate(per_s=1.0, burst=1), 0.0)
        assert [bucket.wait_s(0.0) for _ in range(3)] == [0, 0, 0]
        assert bucket.take(0.0) == 0
        assert [bucket.wait_s(0.5) for _ in range(3)] == [0.5, 0.5, 0.5]
        assert bucket.wait_s(1.0) == 0

    def test_a_clock_that_is_set_back_takes_none_away(self) -> None:
        bucket = Bucket(Rate(per_s=2.0, burst=3), 10_000.0)
        assert [bucket.take(6_400.0) for _ in range(4)] == [0, 0, 0, 0.5]
        assert bucket.take(6_400.5) == 0

    @given(RATES, PAUSES)
    def test_no_time_has_more_than_a_burst_and_the_rate(self, rate: Rate, pauses: list[float]) -> None:
        now, bucket = 0.0, Bucket(rate, 0.0)
        taken = []
        for pause in pauses:
            now += pause
            if not bucket.take(now):
                taken.append(now)
        for i, begin in enumerate(taken):
            for j, end in enumerate(taken[i:]):
                assert j + 1 <= rate.burst + (end - begin) * rate.per_s

    @given(RATES, PAUSES)
    def test_the_time_to_wait_is_right(self, rate: Rate, pauses: list[float]) -> None:
        now, bucket = 0.0, Bucket(rate, 0.0)
        for pause in pauses:
            now += pause
            wait = bucket.take(now)
            if wait:
                assert bucket.wait_s(now + wait / 2) > 0
                now += wait
                assert bucket.take(now) == 0

    @given(RATES, PAUSES)
    def test_a_caller_that_keeps_to_the_rate_is_never_refused(self, rate: Rate, pauses: list[float]) -> None:
        now, bucket = 0.0, Bucket(rate, 0.0)
        for pause in pauses:
            now += max(pause, 1 / rate.per_s)
            assert bucket.take(now) == 0


@pytest.mark.parametrize(
    ("rate", "taken", "policy", "left"),
    [
        (Rate(2.0, 10), 0, b'"requests";q=10;w=5', b'"requests";r=10;t=0'),
        (Rate(2.0, 10), 3, b'"requests";q=10;w=5', b'"requests";r=7;t=2'),
        (Rate(2.0, 10), 10, b'"requests";q=10;w=5', b'"requests";r=0;t=5'),
        (Rate(0.3, 1), 1, b'"requests";q=1;w=4', b'"requests";r=0;t=4'),
    ],
)
def test_tells_what_is_left(rate: Rate, taken: int, policy: bytes, left: bytes) -> None:
    bucket = Bucket(rate, 0.0)
    for _ in range(taken):
        bucket.take(0.0)
    assert bucket.headers() == [(b"RateLimit-Policy", policy), (b"RateLimit", left)]
