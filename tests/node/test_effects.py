from dcounter.node.effects import CloseChannel, LogMessage, Outbox, Send
from dcounter.protocol import messages


def test_effects_are_taken_once_and_in_their_order() -> None:
    out = Outbox()
    out.send(7, messages.Welcome())
    out.add(CloseChannel(7, "over"))
    out.say("warn", "look at this")
    out.broadcast([1, 2], messages.Beat(5))

    assert out.take() == [
        Send(7, b'{"type":"welcome"}'),
        CloseChannel(7, "over"),
        LogMessage("warn", "look at this"),
        Send(1, b'{"type":"beat","stamp":5}'),
        Send(2, b'{"type":"beat","stamp":5}'),
    ]
    assert out.take() == []


def test_a_message_to_nobody_is_no_effect() -> None:
    out = Outbox()
    out.broadcast([], messages.Welcome())

    assert out.take() == []
