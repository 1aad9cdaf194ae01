from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from dcounter.http.task import Task


class Steps:
    """
    What a coroutine has seen.
    """

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def wait(self, *awaited: Deferred[Any]) -> None:
        for each in awaited:
            try:
                self.seen.append(await each)
            except (ZeroDivisionError, CancelledError) as error:
                self.seen.append(type(error))
        self.seen.append("end")


def test_one_that_waits_for_nothing_is_over_at_once() -> None:
    steps = Steps()
    task = Task(steps.wait())
    task.run()
    assert steps.seen == ["end"]
    task.cancel()


def test_it_goes_on_with_each_result() -> None:
    steps = Steps()
    first, second = Deferred[object](), Deferred[object]()
    Task(steps.wait(first, second)).run()
    assert steps.seen == []
    first.callback(1)
    assert steps.seen == [1]
    second.errback(ZeroDivisionError())
    assert steps.seen == [1, ZeroDivisionError, "end"]
    # Both results have been taken.
    assert first.result is None
    assert second.result is None


def test_what_is_there_already_does_not_fill_the_stack() -> None:
    steps = Steps()
    late = Deferred[object]()
    Task(steps.wait(*(succeed(n) for n in range(5_000)), fail(ZeroDivisionError()), late)).run()
    assert steps.seen == [*range(5_000), ZeroDivisionError]
    late.callback(1)
    assert steps.seen[-2:] == [1, "end"]


def test_cancelling_it_cancels_what_it_waits_for() -> None:
    steps = Steps()
    cancelled: list[object] = []
    task = Task(steps.wait(succeed(1), Deferred(cancelled.append), Deferred(cancelled.append)))
    task.run()
    task.cancel()
    assert steps.seen == [1, CancelledError]
    task.cancel()
    assert steps.seen == [1, CancelledError, CancelledError, "end"]
    assert len(cancelled) == 2
    task.cancel()
