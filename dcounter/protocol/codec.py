"""
One message as one line of JSON, and back; a stream of bytes as lines.
"""

import msgspec
from msgspec import Struct

from dcounter.errors import MalformedMessage
from dcounter.protocol.batch import decoded
from dcounter.protocol.messages import JournalLine, Message, Opening
from dcounter.protocol.position import Stamp


class RecordHead(Struct, frozen=True, tag="record"):
    """
    What can be known of a `Record` without its batch.
    """

    stamp: Stamp
    opening: Opening | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_journal_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)
_head_decoder = msgspec.json.Decoder(RecordHead)
_PIECE = b'{"type":"copy_piece",'


def encode(message: Message | JournalLine) -> bytes:
    """
    One message as one line, without the line's end.
    """
    return _encoder.encode(message)


def decode(line: bytes) -> Message:
    """
    One line as a message.

    :raises MalformedMessage: it is none.
    """
    return decoded(_decoder, line, "a message")


def decode_kept(line: bytes) -> JournalLine:
    """
    One line of a journal.

    :raises MalformedMessage: it is none.
    """
    return decoded(_journal_decoder, line, "a line of a journal")


def is_piece(line: bytes) -> bool:
    """
    Whether a line, of which the beginning is enough, is a `CopyPiece` that we encoded.
    """
    return line.startswith(_PIECE)


def decode_head(line: bytes) -> RecordHead:
    """
    One line as a record, without a look at its batch.

    :raises MalformedMessage: it is none.
    """
    return decoded(_head_decoder, line, "a record")


class LineSplitter:
    """
    Cuts a stream of bytes into lines, whatever pieces it arrives in.

    :ivar limit: longest line (bytes); it may change between two calls.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take bytes and give the lines that they complete, without their ends.

        Nothing beyond the limit is kept, and a long line that comes in many pieces is joined once.

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
