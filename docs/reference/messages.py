"""
The messages between nodes and coordinators, from the classes that the code sends and reads.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec

from dcounter.http.descriptions import in_one_line
from dcounter.protocol import messages, questions
from docs.reference.markdown import code, table

_Kind = type[Any]

_PHASES: Final[Mapping[str, Any]] = {
    "The handshake": (messages.Hello, messages.Challenge, messages.Proof, messages.Welcome),
    "From a coordinator to a node": get_args(messages.FromCoordinator),
    "Questions, inside of Ask": tuple(questions.ANSWERS),
    "From a node to a coordinator": get_args(messages.ToCoordinator),
    "Answers, inside of Told": (*questions.ANSWERS.values(), questions.Declined),
    "Between two nodes": get_args(messages.BetweenNodes),
    "From either end, before it leaves": (messages.Farewell,),
    "Lines of a journal": get_args(messages.JournalLine),
}
"""
When messages may come.
"""


def messages_of_phases() -> str:
    """
    All messages, by when they may come.
    """
    return "".join(
        f"## {phase}\n\n{table(['message', 'type', 'fields', 'meaning'], map(_row, kinds))}"
        for phase, kinds in _PHASES.items()
    )


def shown() -> Iterable[_Kind]:
    """
    The classes of the messages that the page has.
    """
    return [kind for kinds in _PHASES.values() for kind in kinds]


def _row(kind: _Kind) -> tuple[str, str, str, str]:
    name = kind.__name__
    tag = str(kind.__struct_config__.tag or "")
    fields = [
        code(field.encode_name) if field.required else f"{code(field.encode_name)}?"
        for field in msgspec.structs.fields(kind)
    ]
    return f"[{name}](protocol.md#{name.lower()})", code(tag), ", ".join(fields), _told(kind)


def _told(kind: _Kind) -> str:
    text = in_one_line((inspect.getdoc(kind) or "").partition("\n\n")[0])
    reply = messages.REPLIES.get(kind) or questions.ANSWERS.get(kind)
    if reply and f"`{reply.__name__}`" not in text:
        text += f" Answered by {code(reply.__name__)}."
    return text
