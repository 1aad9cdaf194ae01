from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dcounter.coordinator.acks import Acks
from dcounter.errors import LinkLost
from dcounter.limits import Limits
from dcounter.protocol.messages import Awaited
from dcounter.protocol.position import Position
from dcounter.store import Ack

POSITION = Position().advance(0, 5, 1).advance(1, 5, 1)


class FakeLink:
    """
    A link that remembers what was asked.
    """

    def __init__(self) -> None:
        self.asked: list[Deferred[Awaited]] = []

    def ask(self, make: object) -> Deferred[Awaited]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, *, reached: bool = True) -> None:
        self.asked[-1].callback(Awaited(1, reached, POSITION, 0))


class FakeView:
    """
    Node 0 is the primary, and nothing is known of what is durable.
    """

    def elect(self) -> None:
        pass

    def primary(self) -> int:
        return 0

    def has_durable(self, node: int, position: Position) -> bool:
        return False


class Waiting:
    def __init__(self, nodes: int = 4) -> None:
        self.clock = Clock()
        self.links = {node: FakeLink() for node in range(nodes)}
        self.acks = Acks(
            cast("Any", self.links), cast("Any", FakeView()), limits=Limits(), time=cast("Any", self.clock)
        )
        self.reached: list[Ack] = []

    def wait(self, ack: Ack) -> None:
        Deferred.fromCoroutine(self.acks.wait(POSITION, ack, 5.0)).addCallback(self.reached.append)

    def remove(self, node: int) -> None:
        """
        A member is removed: its link ends, and each question that waits for it fails.
        """
        link = self.links.pop(node)
        for each in link.asked:
            if not each.called:
                each.errback(LinkLost("removed"))

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.acks.tick(self.clock.seconds())


@pytest.mark.parametrize(
    ("ack", "nodes"), [("node", []), ("primary", [0]), ("majority", [1, 2, 3]), ("all", [3, 2, 1, 0])]
)
def test_as_many_as_were_asked_for(ack: Ack, nodes: list[int]) -> None:
    world = Waiting()
    world.wait(ack)
    for node in nodes:
        assert world.reached == []
        world.links[node].answer()
    assert world.reached == [ack]
    assert not world.acks.busy


def test_the_strongest_level_that_was_reached_when_time_is_over() -> None:
    world = Waiting()
    world.wait("all")
    for node in (0, 1, 2):
        world.links[node].answer()
    world.tick(4.9)
    assert world.reached == []
    world.tick(0.2)
    assert world.reached == ["majority"]


def test_one_that_was_removed_meanwhile_is_not_waited_for() -> None:
    world = Waiting()
    world.wait("all")
    for node in (0, 1):
        world.links[node].answer()
    world.remove(3)
    # It is looked at again a heartbeat later, and nobody is misled by that.
    world.tick(Limits().heartbeat_s)
    assert world.reached == []
    world.links[2].answer()
    assert world.reached == ["all"]


def test_one_that_was_removed_after_it_had_it_does_not_count() -> None:
    world = Waiting()
    world.wait("all")
    for node in (0, 1, 3):
        world.links[node].answer()
    world.remove(3)
    world.tick(0.1)
    assert world.reached == [], "node 2 does not have it"
    world.links[2].answer()
    assert world.reached == ["all"]


def test_one_that_was_lost_or_full_is_asked_again() -> None:
    world = Waiting(2)
    world.wait("all")
    world.links[0].answer()
    world.links[1].answer(reached=False)
    world.tick(Limits().heartbeat_s)
    world.links[1].asked[-1].errback(LinkLost("gone"))
    world.tick(Limits().heartbeat_s)
    world.links[1].answer()
    assert world.reached == ["all"]
    assert len(world.links[1].asked) == 3
