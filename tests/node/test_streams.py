from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.task import Clock

from dcounter.node.streams import Streams

PACE = 0.5


@dataclass
class Pipe:
    """
    A channel that takes so many lines.
    """

    room: int = 10
    host: str = "here"
    lines: list[bytes] = field(default_factory=list)

    @property
    def paused(self) -> bool:
        return len(self.lines) >= self.room

    def send_line(self, line: bytes) -> None:
        self.lines.append(line)

    def send_lines(self, lines: Sequence[bytes]) -> None:
        self.lines += lines

    def cut(self, reason: str) -> None:
        raise AssertionError(reason)


class StreamingNode:
    def __init__(self, room: int = 10) -> None:
        self.clock = Clock()
        self.pipe = Pipe(room)
        self.ready: list[list[bytes]] = []
        self.streams = Streams({1: self.pipe}, self._next, PACE, self.clock)

    def _next(self, channel: int) -> list[bytes]:
        assert channel == 1
        return self.ready.pop(0) if self.ready else []


def test_what_there_is_is_written_at_once() -> None:
    world = StreamingNode()
    world.ready = [[b"a", b"b"], [b"c"]]
    world.streams.soon(1)
    assert world.pipe.lines == [b"a", b"b", b"c"]
    assert world.clock.getDelayedCalls() == []


def test_what_comes_a_moment_later_is_written_together() -> None:
    world = StreamingNode()
    world.streams.soon(1)
    for line in (b"a", b"b"):
        world.ready.append([line])
        world.streams.soon(1)
    assert world.pipe.lines == []
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(PACE)
    assert world.pipe.lines == [b"a", b"b"]


def test_a_full_channel_is_continued_when_it_says_so() -> None:
    world = StreamingNode(room=1)
    world.ready = [[b"a"], [b"b"]]
    world.streams.soon(1)
    assert world.pipe.lines == [b"a"]
    world.pipe.room = 5
    world.streams.now(1)
    assert world.pipe.lines == [b"a", b"b"]


def test_a_channel_has_its_share_of_a_turn_however_much_it_takes() -> None:
    world = StreamingNode(room=100)
    world.ready = [[bytes(60_000)], [bytes(10_000)], [b"next turn"]]
    world.streams.soon(1)
    assert [len(line) for line in world.pipe.lines] == [60_000, 10_000]
    # What is asked for meanwhile has to wait for that turn, too.
    world.streams.soon(1)
    assert len(world.pipe.lines) == 2
    world.clock.advance(0)
    assert world.pipe.lines[2:] == [b"next turn"]
    assert world.clock.getDelayedCalls() == []


def test_a_channel_that_says_that_it_takes_more_gets_no_second_timer() -> None:
    world = StreamingNode(room=100)
    world.ready = [[bytes(70_000)], [bytes(70_000)], [b"next turn"]]
    world.streams.soon(1)
    world.streams.now(1)
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(0)
    assert world.pipe.lines[2:] == [b"next turn"]


def test_a_channel_that_is_gone_is_written_to_no_more() -> None:
    world = StreamingNode()
    world.streams.soon(1)
    world.streams.soon(1)
    world.ready = [[b"a"]]
    world.streams.closed(1)
    world.streams.closed(2)
    world.streams.now(2)
    assert world.clock.getDelayedCalls() == []
    assert world.pipe.lines == []
