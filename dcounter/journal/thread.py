"""
Where a journal's blocking work is done: a thread of its own, never the reactor's.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

_T = TypeVar("_T")


class InThread(Protocol):
    """
    The writer's thread: it does one piece of work after the other.
    """

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...

    def stop(self) -> None:
        """
        End the thread.
        """


class WriterThread:
    """
    A thread that does nothing but write one node's journal.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, 1, name)

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, work)

    def stop(self) -> None:
        if self._pool.started:
            self._pool.stop()
