"""
Encodes messages as lines of JSON and decodes them, and splits a stream of bytes into lines.
"""

import msgspec
from msgspec import Struct

from dcounter.errors import MalformedMessage
from dcounter.protocol.batch import decoded
from dcounter.protocol.messages import (
    BetweenNodes,
    ChallengeNext,
    Farewell,
    FromCoordinator,
    HelloFirst,
    JournalLine,
    Message,
    ProofNext,
    ToCoordinator,
    WelcomeLast,
)
from dcounter.protocol.position import Opening, Stamp


class RecordHead(Struct, frozen=True, tag="record"):
    """
    The fields of a `Record` that can be read without its batch.
    """

    stamp: Stamp
    opening: Opening | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_journal_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)
_head_decoder = msgspec.json.Decoder(RecordHead)
# One for each phase of a connection; a farewell may come in any of them.
_hello: msgspec.json.Decoder[HelloFirst] = msgspec.json.Decoder(HelloFirst)
_challenge: msgspec.json.Decoder[ChallengeNext] = msgspec.json.Decoder(ChallengeNext)
_proof: msgspec.json.Decoder[ProofNext] = msgspec.json.Decoder(ProofNext)
_welcome: msgspec.json.Decoder[WelcomeLast] = msgspec.json.Decoder(WelcomeLast)
_from_coordinator: msgspec.json.Decoder[FromCoordinator | Farewell] = msgspec.json.Decoder(
    FromCoordinator | Farewell
)
_to_coordinator: msgspec.json.Decoder[ToCoordinator | Farewell] = msgspec.json.Decoder(
    ToCoordinator | Farewell
)
_between_nodes: msgspec.json.Decoder[BetweenNodes | Farewell] = msgspec.json.Decoder(BetweenNodes | Farewell)
_CHUNK_START = b'{"type":"copy_piece",'


def encode(message: Message | JournalLine) -> bytes:
    """
    Encode a message as one line, without the newline.
    """
    return _encoder.encode(message)


def decode(line: bytes) -> Message:
    """
    Decode any message, for callers that do not know the phase of the connection.

    :raises MalformedMessage: the line is something else.
    """
    return decoded(_decoder, line, "a message")


def decode_hello(line: bytes) -> HelloFirst:
    """
    Decode the first line of a caller.

    :raises MalformedMessage: the line is neither that nor a farewell.
    """
    return decoded(_hello, line, "a hello")


def decode_challenge(line: bytes) -> ChallengeNext:
    """
    Decode the first line of the node that was called.

    :raises MalformedMessage: the line is neither that nor a farewell.
    """
    return decoded(_challenge, line, "a challenge")


def decode_proof(line: bytes) -> ProofNext:
    """
    Decode the second line of a caller.

    :raises MalformedMessage: the line is neither that nor a farewell.
    """
    return decoded(_proof, line, "a proof")


def decode_welcome(line: bytes) -> WelcomeLast:
    """
    Decode the second line of the node that was called.

    :raises MalformedMessage: the line is neither that nor a farewell.
    """
    return decoded(_welcome, line, "a welcome")


def decode_from_coordinator(line: bytes) -> FromCoordinator | Farewell:
    """
    Decode what a coordinator sends to a node.

    :raises MalformedMessage: the line is nothing that may come there.
    """
    return decoded(_from_coordinator, line, "a message of a coordinator")


def decode_to_coordinator(line: bytes) -> ToCoordinator | Farewell:
    """
    Decode what a node sends to a coordinator.

    :raises MalformedMessage: the line is nothing that may come there.
    """
    return decoded(_to_coordinator, line, "a message to a coordinator")


def decode_between_nodes(line: bytes) -> BetweenNodes | Farewell:
    """
    Decode what a node sends to another node.

    :raises MalformedMessage: the line is nothing that may come there.
    """
    return decoded(_between_nodes, line, "a message between nodes")


def decode_kept(line: bytes) -> JournalLine:
    """
    Decode a line of a journal.

    :raises MalformedMessage: the line is something else.
    """
    return decoded(_journal_decoder, line, "a line of a journal")


def is_chunk(line: bytes) -> bool:
    """
    Whether a line is a `CopyChunk` that `encode` made; its beginning is enough.
    """
    return line.startswith(_CHUNK_START)


def decode_head(line: bytes) -> RecordHead:
    """
    Decode a record without its batch.

    :raises MalformedMessage: the line is something else.
    """
    return decoded(_head_decoder, line, "a record")


class LineSplitter:
    """
    Splits a stream of bytes into lines, however the stream is divided when it arrives.

    :ivar limit: longest line (bytes); it may change between two calls.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take bytes and return the lines that they complete, without newlines.

        Nothing beyond the limit is kept, and a long line that arrives in many parts is joined only once.

        :raises MalformedMessage: a line is longer than the limit.
        """
        first, *others = data.split(b"\n")
        self._rest.append(first)
        self._size += len(first)
        long = len(data) > self.limit and any(len(line) > self.limit for line in others)
        if long or self._size > self.limit:
            self._rest, self._size = [], 0
            raise MalformedMessage(f"a line of more than {self.limit} bytes")
        if not others:
            return []
        lines = [b"".join(self._rest), *others[:-1]]
        self._rest, self._size = [others[-1]], len(others[-1])
        return lines
