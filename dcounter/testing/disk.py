"""
A disk in memory that loses what was not synced, and the thread that writes to it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EBADF, ENOENT, ENOSPC, EROFS
from functools import partial
from os import strerror
from random import Random
from typing import Literal, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dcounter.errors import DirectoryInUse
from dcounter.journal.disk import AppendFile

_T = TypeVar("_T")


class PowerLoss(Exception):
    """
    The machine is off: the process that was using the disk is dead.
    """


DiskOperation = Literal[
    "list", "read", "create", "truncate", "rename", "remove", "sync names", "write", "sync", "close"
]
FAILING: Sequence[DiskOperation] = (
    "create",
    "truncate",
    "rename",
    "remove",
    "sync names",
    "write",
    "sync",
    "close",
)
"""
Operations that can fail while a journal goes on.
"""

_CHANGING: Collection[DiskOperation] = ("create", "truncate", "rename", "remove", "write")


@dataclass(eq=False, slots=True)
class _Inode:
    """
    What a file holds.

    :ivar data: what a process reads.
    :ivar durable: how much of it (bytes) survives a loss of power for certain.
    :ivar dropped: a sync failed: what was not durable then never will be, whatever later ones say.
    :ivar cut: an end that was cut, but not durably: it may be there again after a loss of power.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    dropped: bool = False
    cut: bytes = b""

    def lose_power(self, random: Random, keep: float) -> None:
        kept = self.durable
        self.data += self.cut
        self.cut = b""
        if random.random() < keep:
            kept = len(self.data) if keep == 1.0 else random.randint(self.durable, len(self.data))
        torn = bytearray(self.data[:kept])
        if random.random() < keep / 2:
            for place in range(max(self.durable, kept - random.randint(0, 40)), kept):
                torn[place] = random.choice((0, 10, random.randrange(256)))
        self.data, self.durable, self.dropped = torn, kept, False


# What becomes of names: the file that each has then, or none. A rename gives a name to the file that it was
# made for, whatever becomes of the changes before it.
_Change = Mapping[str, _Inode | None]


class _SimulatedFile:
    def __init__(self, disk: "SimulatedDisk", inode: _Inode) -> None:
        self._disk: SimulatedDisk | None = disk
        self._inode = inode
        self._life = disk.life

    def write(self, data: bytes) -> None:
        disk = self._opened()
        room = disk.room()
        with disk.doing("write"):
            self._inode.cut = b""
            if "write" in disk.errors:
                room = len(data) // 2
            self._inode.data += data[:room]
        disk.fail("write")
        if room is not None and len(data) > room:
            raise OSError(ENOSPC, strerror(ENOSPC))

    def sync(self) -> None:
        disk = self._opened()
        if "sync" in disk.errors:
            self._inode.dropped = True
        with disk.doing("sync"):
            disk.fail("sync")
            if not self._inode.dropped:
                self._inode.durable = len(self._inode.data)

    def close(self) -> None:
        disk = self._opened()
        self._disk = None
        disk.fail("close")

    def _opened(self) -> "SimulatedDisk":
        if self._disk is None or self._life != self._disk.life:
            raise OSError(EBADF, strerror(EBADF))
        return self._disk


class SimulatedDisk:
    """
    A `Disk` in memory, for `FileJournal`, that can lose what was not synced and fail in the usual ways.

    :ivar errors: operation -> the number of the error it fails with, until it is taken out again.
    :ivar capacity: bytes that all files together may hold; `None` for no limit.
    :ivar read_only: whether nothing can be changed.
    :ivar points: how many moments there were so far at which the power might have failed.
    :ivar power_fails_at: the moment at which it does (from then on all operations raise `PowerLoss`).
    :ivar power_lost: called when the power fails at that moment.
    :ivar life: a number that changes when the process that uses the disk dies.
    """

    def __init__(self) -> None:
        self.errors: dict[DiskOperation, int] = {}
        self.capacity: int | None = None
        self.read_only = False
        self.points = 0
        self.power_fails_at: int | None = None
        self.power_lost: Callable[[], object] = lambda: None
        self.life = 0
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._changes: list[_Change] = []
        self._used = False

    # What may happen to it

    def kill(self) -> None:
        """
        Kill the process that uses the disk; the machine stays on.
        """
        self.life += 1
        self._used = False

    def lose_power(self, random: Random) -> None:
        """
        Switch the machine off and on again.

        What was synced is there. Of what was written since, some of the beginning may be, its end perhaps
        garbled; of the names that were given and taken away since, each may be as before or as after.
        """
        self.kill()
        self.power_fails_at = None
        keep = random.choice((0.0, 0.5, 1.0))
        for change in self._changes:
            if random.random() < keep:
                _apply(change, self._durable_names)
        self._names = dict(self._durable_names)
        self._changes = []
        for inode in self._names.values():
            inode.lose_power(random, keep)

    def off(self) -> bool:
        """
        Whether the power has failed.
        """
        return self.power_fails_at is not None and self.points >= self.power_fails_at

    @property
    def used(self) -> bool:
        """
        Whether a process uses it.
        """
        return self._used

    def wipe(self) -> None:
        """
        Replace it by an empty disk.
        """
        self._names.clear()
        self._durable_names.clear()
        self._changes.clear()
        self.power_fails_at = None

    def copy(self) -> "SimulatedDisk":
        """
        Another disk with what the files of this one hold.
        """
        other = SimulatedDisk()
        for name, inode in self._names.items():
            other._names[name] = _Inode(bytearray(inode.data), len(inode.data))
        other._durable_names.update(other._names)
        return other

    def put_back(self, other: "SimulatedDisk") -> None:
        """
        Let the files be those of a copy that was made earlier.
        """
        self.wipe()
        self._names.update(other.copy()._names)  # noqa: SLF001 - a disk like this one
        self._durable_names.update(self._names)

    def sizes(self) -> dict[str, int]:
        """
        The size of each file in bytes.
        """
        return {name: len(inode.data) for name, inode in self._names.items()}

    def lose_end(self, name: str, size: int) -> None:
        """
        Keep only the first `size` bytes of a file, although more was synced: the disk lied.
        """
        inode = self._names[name]
        del inode.data[size:]
        inode.durable = min(inode.durable, size)

    def damage(self, name: str, place: int) -> None:
        """
        Flip a bit of what a file holds.
        """
        self._names[name].data[place] ^= 1

    # Disk

    def open(self) -> None:
        if self._used:
            raise DirectoryInUse("the disk is used by another process")
        self._used = True

    def close(self) -> None:
        self._used = False

    def list(self) -> list[str]:
        self._check("list")
        return sorted(self._names)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        self._check("read")
        return bytes(self._inode(name).data[start : None if size is None else start + size])

    def create(self, name: str) -> AppendFile:
        self._check("create")
        if name in self._names:
            raise FileExistsError(name)
        if self.room() == 0:
            raise OSError(ENOSPC, strerror(ENOSPC))
        inode = _Inode()
        with self.doing("create"):
            self._change({name: inode})
        return _SimulatedFile(self, inode)

    def rewrite(self, name: str, data: bytes) -> None:
        self._check("write")
        inode = self._inode(name)
        with self.doing("write"):
            assert inode.data.startswith(data)
        if "sync" in self.errors:
            inode.dropped = True
        with self.doing("sync"):
            self.fail("sync")
            inode.durable = max(inode.durable, len(data))
            inode.dropped = inode.dropped and inode.durable < len(inode.data)

    def truncate(self, name: str, size: int) -> None:
        self._check("truncate")
        inode = self._inode(name)
        with self.doing("truncate"):
            inode.cut = bytes(inode.data[size:]) + inode.cut if "sync" in self.errors else b""
            del inode.data[size:]
            inode.dropped = inode.dropped and inode.durable < size
            inode.durable = min(inode.durable, size) if inode.dropped else len(inode.data)
        self.fail("sync")

    def rename(self, old: str, new: str) -> None:
        self._check("rename")
        inode = self._inode(old)
        with self.doing("rename"):
            self._change({old: None, new: inode})

    def remove(self, name: str) -> None:
        if name in self._names:
            self._check("remove")
            with self.doing("remove"):
                self._change({name: None})

    def shorten(self, name: str, size: int) -> bool:
        self._check("truncate")
        inode = self._inode(name)
        if len(inode.data) <= size:
            self.remove(name)
            return True
        with self.doing("truncate"):
            inode.cut = bytes(inode.data[-size:]) + inode.cut
            del inode.data[-size:]
            inode.durable = min(inode.durable, len(inode.data))
        return False

    def sync(self) -> None:
        self._check("sync names")
        with self.doing("sync names"):
            self._durable_names = dict(self._names)
            self._changes.clear()

    # For its files

    def room(self) -> int | None:
        """
        Bytes that may yet be written.
        """
        if self.capacity is None:
            return None
        return max(0, self.capacity - sum(len(inode.data) for inode in self._names.values()))

    def fail(self, operation: DiskOperation) -> None:
        """
        Raise the error that this operation has to fail with, if any.
        """
        if operation in self.errors:
            number = self.errors[operation]
            raise OSError(number, strerror(number))

    @contextmanager
    def doing(self, operation: DiskOperation) -> Iterator[None]:
        """
        Make a change, before and after which the power may fail.
        """
        if self.read_only and operation in _CHANGING:
            raise OSError(EROFS, strerror(EROFS))
        self._power()
        yield
        self._power()

    def _power(self) -> None:
        if self.off():
            self.power_lost()
            raise PowerLoss
        self.points += 1

    def _check(self, operation: DiskOperation) -> None:
        assert self._used, "the disk is not open"
        self.fail(operation)

    def _inode(self, name: str) -> _Inode:
        if name not in self._names:
            raise FileNotFoundError(ENOENT, strerror(ENOENT), name)
        return self._names[name]

    def _change(self, change: _Change) -> None:
        _apply(change, self._names)
        self._changes.append(change)


def _apply(change: _Change, names: dict[str, _Inode]) -> None:
    for name, inode in change.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


class SimulatedWriter:
    """
    A writer's thread on a simulated clock.

    As with a real one, the next piece of work may be done before the result of the last one is heard.

    :param seconds: how long a piece of work takes; it is done at the end of that time.
    :param delay: how long it takes until the result is heard.
    """

    def __init__(
        self,
        clock: IReactorTime,
        seconds: Callable[[], float] = lambda: 0.001,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._delay = delay
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = False
        self._heard = 0.0
        self.stopped = False

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]:
        assert not self.stopped
        done: Deferred[_T] = Deferred()
        self._waiting.append(partial(self._do, work, done))
        self._next()
        return done

    def stop(self) -> None:
        self.stopped = True

    def _next(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            self._clock.callLater(self._seconds(), self._waiting.popleft())

    def _do(self, work: Callable[[], _T], done: Deferred[_T]) -> None:
        try:
            result: _T | Failure = work()
        except PowerLoss:
            # The process is dead: it hears no result, and does nothing else.
            return
        except Exception:  # noqa: BLE001 - handed on, as from a real thread
            result = Failure()
        self._heard = max(self._heard, self._clock.seconds() + self._delay())
        self._clock.callLater(self._heard - self._clock.seconds(), _tell, done, result)
        self._busy = False
        self._next()


def _tell(done: Deferred[_T], result: _T | Failure) -> None:
    if isinstance(result, Failure):
        done.errback(result)
    else:
        done.callback(result)
