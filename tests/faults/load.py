"""
Writers and readers under whom nodes die, and what their histories allow.

Three kinds of items fly, and each is checked in its own way:

- *new* ones: an ID is stored once, by one writer, for a tenant that only that writer uses for a while. What
  was acknowledged must be there, what was not may be. Nothing else may.
- *moved* ones: a writer stores the same ID again and again, without a time, for one tenant after the other.
  The last acknowledged write wins, or one after it whose outcome nobody knows.
- *stamped* ones: all writers store the same IDs with a `lastUpdateDt` of their own, in no order. The largest
  (time, tenant) that was acknowledged wins, or a larger one whose outcome nobody knows.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from dcounter.client import Answer
from dcounter.ledger.ledger import Ledger
from tests.faults.processes import Caller, NoAnswer, wait_until

_WRITERS = 6

_NEW = 20
_MOVED = 4
_STAMPED = 4
"""
Items of each kind in one request.
"""

_MOVED_IDS = 200
_STAMPED_IDS = 1000
_FIRST_MOVED = 10**15
_FIRST_STAMPED = 2 * 10**15
_REQUESTS_PER_TENANT = 25

_PACE = 0.02
"""
Time (s) that a writer leaves between its requests: the nodes shall die under load, not the machine.
"""

_SECOND = 1_000_000_000

Entry = tuple[int, str]


def shown(stamp: int) -> str:
    """
    A stamp (ns since 1970) as RFC 3339 with 9 digits.
    """
    seconds, nanoseconds = divmod(stamp, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"


@dataclass(slots=True)
class Request:
    """
    Items that are posted together.

    :ivar new: IDs stored once, all for `tenant`.
    :ivar moved: ID -> its next tenant.
    :ivar stamped: ID -> time and tenant.
    """

    tenant: str
    new: range
    moved: dict[int, str]
    stamped: dict[int, Entry]

    def items(self) -> list[dict[str, Any]]:
        return [
            *({"ID": item, "tenant": self.tenant} for item in self.new),
            *({"ID": item, "tenant": tenant} for item, tenant in self.moved.items()),
            *(
                {"ID": item, "tenant": tenant, "lastUpdateDt": shown(stamp)}
                for item, (stamp, tenant) in self.stamped.items()
            ),
        ]


class History:
    """
    What was tried, what was acknowledged, and so what may be found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.acknowledged = 0
        self.unknown = 0
        self.refused = 0
        # New items: tenant -> how many were tried and acknowledged.
        self._tried: Counter[str] = Counter()
        self._sure: Counter[str] = Counter()
        self._new: list[tuple[range, str, bool]] = []
        # Moved items: ID -> what may be there, the surest first.
        self._moved: dict[int, list[str]] = {}
        # Stamped items: ID -> the largest that is sure, and whatever may be there besides.
        self._stamped: dict[int, Entry] = {}
        self._stamped_perhaps: dict[int, list[Entry]] = {}

    def try_(self, request: Request) -> None:
        """
        A request is about to be sent.
        """
        with self._lock:
            self.requests += 1
            self._tried[request.tenant] += len(request.new)
            for item, tenant in request.moved.items():
                self._moved.setdefault(item, [""]).append(tenant)

    def acknowledge(self, request: Request) -> None:
        """
        All of a request is stored.
        """
        with self._lock:
            self.acknowledged += len(request.new) + len(request.moved) + len(request.stamped)
            self._sure[request.tenant] += len(request.new)
            self._new.append((request.new, request.tenant, True))
            for item, tenant in request.moved.items():
                self._moved[item] = [tenant]
            for item, entry in request.stamped.items():
                self._stamped[item] = max(entry, self._stamped.get(item, entry))

    def give_up(self, request: Request) -> None:
        """
        Nobody will ever know what became of a request.
        """
        with self._lock:
            self.unknown += 1
            self._new.append((request.new, request.tenant, False))
            for item, entry in request.stamped.items():
                self._stamped_perhaps.setdefault(item, []).append(entry)

    def tenants(self) -> list[str]:
        """
        Tenants of new items.
        """
        with self._lock:
            return list(self._tried)

    def sure(self, tenant: str) -> int:
        """
        How many new items a tenant has at least.
        """
        with self._lock:
            return self._sure[tenant]

    def tried(self, tenant: str) -> int:
        """
        How many new items a tenant has at most.
        """
        with self._lock:
            return self._tried[tenant]

    def check_counts(self, caller: Caller) -> None:
        """
        Ask for the counts of all tenants of new items.
        """
        wrong = []
        for tenant in self.tenants():
            counter = caller.exact_count(tenant)
            if not self.sure(tenant) <= counter <= self.tried(tenant):
                wrong.append(f"{tenant}: {counter}, not {self.sure(tenant)} to {self.tried(tenant)}")
        assert not wrong, f"{len(wrong)} counts are wrong: {wrong[:20]}"

    def check_ledgers(self, ledgers: Sequence[Ledger]) -> None:
        """
        Look for every single item in what the nodes hold, and for what nobody stored.
        """
        assert len({ledger.digest() for ledger in ledgers}) == 1, "the nodes differ"
        ledger = ledgers[0]
        wrong: list[str] = []
        known = 0
        for ids, tenant, sure in self._new:
            for item in ids:
                entry = ledger.get(item)
                known += entry is not None
                if (sure or entry is not None) and (entry is None or entry.tenant != tenant):
                    wrong.append(f"new item {item} of {tenant}: {entry}")
        for item, tenants in self._moved.items():
            entry = ledger.get(item)
            known += entry is not None
            if (entry.tenant if entry is not None else "") not in tenants:
                wrong.append(f"moved item {item}, {tenants}: {entry}")
        for item in {*self._stamped, *self._stamped_perhaps}:
            entry = ledger.get(item)
            known += entry is not None
            best = self._stamped.get(item, (0, ""))
            may = {best, *(each for each in self._stamped_perhaps.get(item, ()) if each > best)}
            if ((entry.stamp, entry.tenant) if entry is not None else (0, "")) not in may:
                wrong.append(f"stamped item {item}, {sorted(may)}: {entry}")
        if known != ledger.known:
            wrong.append(f"{ledger.known} IDs are known, of which {known} were stored")
        assert not wrong, f"{len(wrong)} items are wrong: {wrong[:20]}"


class _Writer(threading.Thread):
    """
    Posts requests one after the other until told to stop.

    :ivar done: requests that were acknowledged.
    """

    def __init__(self, number: int, load: "Load", seed: int) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self.done = 0
        self._number = number
        self._load = load
        self._random = random.Random(seed)
        self._made = 0

    def run(self) -> None:
        caller = self._load.caller()
        try:
            while not self._load.stopping.is_set():
                self._post(caller, self._make())
                self._load.stopping.wait(_PACE)
        except Exception as error:  # noqa: BLE001 - a thread must not fail unseen
            self._load.problems.append(f"{self.name}: {error!r}")
        finally:
            caller.close()

    def _make(self) -> Request:
        chance = self._random
        first = self._number * 1_000_000_000 + self._made * _NEW
        tenant = f"new-{self._number}-{self._made // _REQUESTS_PER_TENANT}"
        self._made += 1
        first_moved = _FIRST_MOVED + self._number * _MOVED_IDS
        moved = chance.sample(range(_MOVED_IDS), _MOVED)
        stamped = chance.sample(range(_STAMPED_IDS), _STAMPED)
        # Few different times, so that some are equal.
        latest = self._load.born // _SECOND
        return Request(
            tenant,
            range(first, first + _NEW),
            {first_moved + item: f"moved-{chance.randrange(8)}" for item in moved},
            {
                _FIRST_STAMPED + item: (
                    (latest - chance.randrange(3600)) * _SECOND + chance.randrange(3),
                    f"stamped-{chance.randrange(8)}",
                )
                for item in stamped
            },
        )

    def _post(self, caller: Caller, request: Request) -> None:
        """
        Post a request until it is stored, or its outcome is unknown and the dice say that it stays so.
        """
        history = self._load.history
        ack = self._random.choices(("node", "primary", "majority", "all"), (85, 5, 5, 5))[0]
        history.try_(request)
        doubtful = False
        while True:
            try:
                answer = caller.ask("POST", "/items", request.items(), ack=ack)
            except NoAnswer as error:
                doubtful = doubtful or error.sent
            else:
                if answer.status == 200 or answer.code == "ack_not_reached":
                    history.acknowledge(request)
                    self.done += 1
                    return
                doubtful = doubtful or self._unknown(answer)
            if self._load.stopping.is_set() or (doubtful and self._random.random() < 0.5):
                history.give_up(request)
                return
            self._load.stopping.wait(_PACE)

    def _unknown(self, answer: Answer) -> bool:
        """
        Whether a request that was not stored may be stored all the same.
        """
        outcome = str(answer.content["outcome"])
        expected = {"unavailable": "not_applied", "deadline": "unknown"}
        if expected.get(str(answer.code)) != outcome:
            self._load.problems.append(f"{self.name}: {answer}")
        self._load.history.refused += 1
        return outcome != "not_applied"


class _Reader(threading.Thread):
    """
    Asks for counts all the time: each must be possible, and none may go back.

    :ivar exact: counts that were answered exactly.
    """

    def __init__(self, load: "Load", seed: int) -> None:
        super().__init__(name="reader", daemon=True)
        self.exact = 0
        self._load = load
        self._random = random.Random(seed)

    def run(self) -> None:
        caller = self._load.caller()
        seen: Counter[str] = Counter()
        try:
            while not self._load.stopping.is_set():
                tenants = self._load.history.tenants()
                if tenants:
                    # The newest ones change, the others must stay.
                    some = tenants[-12:] if self._random.random() < 0.5 else tenants
                    self._look(caller, self._random.choice(some), seen)
                self._load.stopping.wait(_PACE)
        except Exception as error:  # noqa: BLE001 - a thread must not fail unseen
            self._load.problems.append(f"{self.name}: {error!r}")
        finally:
            caller.close()

    def _look(self, caller: Caller, tenant: str, seen: "Counter[str]") -> None:
        history = self._load.history
        least = max(history.sure(tenant), seen[tenant])
        try:
            answer = caller.count(tenant)
        except NoAnswer:
            return
        if answer.status == 200:
            self.exact += 1
            counter, before = answer.content["counter"], seen[tenant]
            seen[tenant] = counter
            if not least <= counter <= history.tried(tenant):
                self._load.problems.append(
                    f"{tenant}: {counter}, not {least} (seen before: {before}) to {history.tried(tenant)}, "
                    f"at {time.time():.3f}"
                )
        elif answer.code not in {"incomplete", "unavailable"}:
            self._load.problems.append(f"{tenant}: {answer}")


@dataclass(slots=True)
class Load:
    """
    Writers and a reader at work.

    :ivar caller: makes a connection.
    :ivar first_writer: the number of the first writer: writers of the same number store the same IDs.
    :ivar problems: what must not have happened.
    """

    caller: Callable[[], Caller]
    seed: int = 0
    first_writer: int = 1
    history: History = field(default_factory=History)
    born: int = field(default_factory=time.time_ns)
    problems: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    writers: list[_Writer] = field(default_factory=list)
    readers: list[_Reader] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.writers = [_Writer(self.first_writer + n, self, self.seed * 100 + n) for n in range(_WRITERS)]
        self.readers = [_Reader(self, self.seed)]
        for thread in [*self.writers, *self.readers]:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """
        Let all writers finish.
        """
        self.stopping.set()
        for thread in [*self.writers, *self.readers]:
            thread.join(60)
        assert not any(thread.is_alive() for thread in [*self.writers, *self.readers])

    def go_on(self, requests: int, *, within: float = 60.0) -> None:
        """
        Wait until every writer has stored so many requests more.
        """
        wanted = [writer.done + requests for writer in self.writers]

        def stored() -> bool:
            self.check()
            return all(writer.done >= least for writer, least in zip(self.writers, wanted, strict=True))

        wait_until(stored, f"{requests} more requests of every writer", within=within)

    def check(self) -> None:
        """
        Fail if something happened that must not.
        """
        assert not self.problems, self.problems[:10]


def longest_silence(caller: Caller, since: float, over: Callable[[], bool], *, within: float = 60.0) -> float:
    """
    Ask for a count again and again; the longest time (s) without an exact one until the fault is over.

    :param since: when (s) the fault came.
    """
    longest = 0.0
    last = since

    def at_rest() -> bool:
        nonlocal longest, last
        # What is over now must be answered afterwards, too.
        at_last = over()
        with suppress(NoAnswer):
            if caller.count("new-1-0").status == 200:
                now = time.monotonic()
                longest, last = max(longest, now - last), now
                return at_last
        return False

    wait_until(at_rest, "exact counts and the end of the fault", within=within)
    return longest
