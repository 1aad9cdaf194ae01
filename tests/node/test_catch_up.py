from collections.abc import Callable

import pytest

from dcounter.errors import MalformedMessage
from dcounter.node.catch_up import NO_COPY, Asked, CatchUp, Idle, Interrupted, State, Taking, Wanted
from dcounter.node.effects import Effect, LogMessage, Outbox, Send
from dcounter.protocol import copies
from dcounter.protocol.position import Position


def has(number: int, node: int = 1) -> Position:
    return Position().advance(node, 5, number)


OLD = copies.CopyBegin(has(3), {}, [])
NEW = copies.CopyBegin(has(9), {}, [])
ASK = Send(1, b'{"type":"copy"}')
BROKE_OFF = LogMessage("warn", "a copy of the ledger broke off; another one will be taken")


def in_state(state: State) -> tuple[CatchUp, Outbox]:
    out = Outbox()
    catch_up = CatchUp(out, 1.0)
    catch_up.state = state
    return catch_up, out


def gap(one: CatchUp) -> None:
    one.want()
    one.ask(1, able=True)


def gap_of_one_that_loads(one: CatchUp) -> None:
    one.want()
    one.ask(1, able=False)


def begin(one: CatchUp) -> None:
    one.begins(1, NEW)


def chunk(one: CatchUp) -> None:
    one.brings(1, has(4))


def end(one: CatchUp) -> None:
    one.ends(1)


def lost(one: CatchUp) -> None:
    one.disconnected(1)


def covered(one: CatchUp) -> None:
    one.covered()


STATES: dict[str, State] = {
    "idle": Idle(),
    "wanted": Wanted(),
    "interrupted": Interrupted(OLD),
    "asked": Asked(1, None),
    "asked again": Asked(1, OLD),
    "taking": Taking(1, OLD),
}
EVENTS = [gap, gap_of_one_that_loads, begin, chunk, end, lost, covered]
# What is not named is an error if it is part of a copy, and else changes nothing.
TABLE: dict[tuple[str, Callable[[CatchUp], None]], State] = {
    ("idle", gap): Asked(1, None),
    ("idle", gap_of_one_that_loads): Wanted(),
    ("wanted", gap): Asked(1, None),
    ("wanted", covered): Idle(),
    ("interrupted", gap): Asked(1, OLD),
    ("interrupted", covered): Idle(),
    ("asked", begin): Taking(1, NEW),
    ("asked", lost): Wanted(),
    ("asked again", begin): Taking(1, NEW),
    ("asked again", lost): Wanted(),
    ("taking", begin): Taking(1, NEW),
    ("taking", chunk): Taking(1, OLD),
    ("taking", end): Idle(),
    ("taking", lost): Wanted(),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_the_table(state: str, event: Callable[[CatchUp], None]) -> None:
    catch_up, out = in_state(STATES[state])
    expected = TABLE.get((state, event))
    if expected is None and event in (begin, chunk, end):
        with pytest.raises(MalformedMessage, match=r"a copy (that was not asked for|without)"):
            event(catch_up)
    else:
        event(catch_up)
    assert catch_up.state == (STATES[state] if expected is None else expected)
    told: list[Effect] = [ASK] if event is gap and expected is not None else []
    told += [BROKE_OFF] if event is lost and expected is not None else []
    assert out.take() == told


@pytest.mark.parametrize("state", [Asked(2, None), Taking(2, OLD)])
@pytest.mark.parametrize("event", [begin, chunk, end])
def test_a_copy_on_another_channel_is_an_error(state: State, event: Callable[[CatchUp], None]) -> None:
    catch_up, _ = in_state(state)
    with pytest.raises(MalformedMessage, match="not asked for"):
        event(catch_up)
    catch_up.disconnected(1)
    assert catch_up.wanted


def test_what_chunks_bring_must_be_reached_even_if_the_copy_breaks_off() -> None:
    catch_up, _ = in_state(Taking(1, NEW))
    catch_up.brings(1, has(4))
    catch_up.disconnected(1)
    assert catch_up.must_reach == has(4)


def test_a_copy_of_which_lines_are_dropped_is_not_kept() -> None:
    catch_up, _ = in_state(Asked(1, None))
    catch_up.lines_dropped()
    catch_up.begins(1, NEW)
    assert catch_up.ends(1) == Taking(1, NEW)
    catch_up.want()
    catch_up.ask(1, able=True)
    catch_up.begins(1, NEW)
    catch_up.lines_dropped()
    assert catch_up.ends(1) == Taking(1, NEW, kept=False)


def test_after_a_start_the_journal_says_where_it_stands() -> None:
    catch_up, _ = in_state(Idle())
    assert catch_up.restored_end() is NO_COPY
    catch_up.restored_begin(OLD)
    assert catch_up.wanted
    assert catch_up.unfinished is OLD
    assert catch_up.restored_end() is OLD
    assert not catch_up.wanted


def test_what_no_member_has_for_a_while_is_required_no_more() -> None:
    catch_up, out = in_state(Idle())
    catch_up.reach(has(9).join(has(2, node=2)))
    known = has(6).join(has(2, node=2))

    def closed(node: int, run: int) -> bool:
        return True

    for now in (0.0, 0.9):
        catch_up.drop_lost(now, known, closed)
    # Not all members were heard of for a moment: it begins again.
    catch_up.drop_lost(1.0, None, closed)
    for now in (1.1, 2.0):
        catch_up.drop_lost(now, known, closed)
        assert out.take() == []
    catch_up.drop_lost(2.1, known, closed)
    assert out.take() == [LogMessage("error", "a copy held items of node 1 that no member has any more")]
    assert known.covers(catch_up.must_reach)


def test_each_run_is_waited_for_by_itself() -> None:
    catch_up, out = in_state(Idle())
    catch_up.reach(has(9).join(has(9, node=2)))
    closed = {1}

    def is_closed(node: int, run: int) -> bool:
        return node in closed

    known = has(6).join(has(2, node=2))
    catch_up.drop_lost(0.0, known, is_closed)
    closed.add(2)
    catch_up.drop_lost(0.9, known, is_closed)
    catch_up.drop_lost(1.0, known, is_closed)
    assert out.take() == [LogMessage("error", "a copy held items of node 1 that no member has any more")]
    assert catch_up.must_reach == has(6).join(has(9, node=2))
    catch_up.drop_lost(2.0, known, is_closed)
    assert out.take() == [LogMessage("error", "a copy held items of node 2 that no member has any more")]
    assert catch_up.must_reach == known


def test_what_may_still_come_is_waited_for() -> None:
    catch_up, out = in_state(Idle())
    catch_up.reach(has(9))
    for now in (0.0, 5.0):
        catch_up.drop_lost(now, has(6), lambda node, run: False)
    assert out.take() == []
    assert catch_up.must_reach == has(9)
