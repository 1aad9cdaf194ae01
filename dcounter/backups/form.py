"""
What a backup looks like.

A backup is an export (`dcounter.http.dumps`) whose first and last line say more: of which cluster it is, how
much it holds, and the SHA-256 of all that comes before that hash. Whatever takes an export takes a backup.

Compressed, it is several frames of zstd, each with a checksum of its own, and at the end a frame that
decompressors skip. That one holds the SHA-256 of all bytes before it: so any byte that has changed is
noticed, also one on which no item depends.
"""

import re
from typing import Final

import msgspec
from msgspec import Struct

from dcounter.errors import DcounterError
from dcounter.http.dumps import FORM as EXPORT_FORM

FORM: Final = 1
"""
The form of backups. A number that this version does not know is refused.
"""

SECTION_BYTES: Final = 4 * 2**20
"""
How many bytes of lines are compressed, counted and restored at once.
"""

ZSTD: Final = b"\x28\xb5\x2f\xfd"
"""
How a frame of zstd begins.
"""

SEAL: Final = b"\x5b\x2a\x4d\x18"
"""
How the frame begins that holds the hash of a compressed backup: one of the numbers of skippable frames.
"""

_SEALED: Final = re.compile(rb'(\{.*"sha256":")([0-9a-f]{64})"\}', re.DOTALL)


class Damaged(DcounterError):
    """
    A backup is not what was written; the message completes the sentence "the backup ...".
    """


class NotABackup(DcounterError):
    """
    A file is no backup that this version can read; the message completes the sentence "the file ...".
    """


class Head(Struct, frozen=True, omit_defaults=True):
    """
    The first line.

    :ivar export: the form of the lines that follow.
    :ivar position: what they include at least.
    :ivar items: about how many follow.
    :ivar deleted: whether IDs that are deleted are among them.
    :ivar backup: the form of the backup; 0 if it is a plain export.
    :ivar dcounter: the version that wrote it.
    :ivar cluster: the id of the cluster.
    :ivar started: when it was begun (RFC 3339).
    :ivar complete: `False` if the export is not exact.
    """

    export: int
    position: str
    items: int = 0
    deleted: bool = False
    backup: int = 0
    dcounter: str = ""
    cluster: str = ""
    started: str = ""
    complete: bool = True


class End(Struct, frozen=True, omit_defaults=True):
    """
    The last line. That of a plain export has only the first two fields.

    :ivar rows: how many lines there are between the first one and this.
    :ivar items: how many of them name a tenant.
    :ivar tombstones: how many are of deleted IDs.
    :ivar tenants: how many tenants there are.
    :ivar digest: that of an audit (`dcounter.audits`) of a cluster that holds just this.
    :ivar finished: when all lines were there (RFC 3339).
    :ivar sha256: of all bytes before these digits, in hexadecimal.
    """

    end: bool
    rows: int
    items: int = 0
    tombstones: int = 0
    tenants: int = 0
    digest: str = ""
    finished: str = ""
    sha256: str = ""


_encode: Final = msgspec.json.Encoder().encode
_head: Final = msgspec.json.Decoder(Head)
_end: Final = msgspec.json.Decoder(End)


def encode_head(head: Head) -> bytes:
    """
    The first line.
    """
    return _encode(head) + b"\n"


def encode_end(end: End) -> tuple[bytes, bytes]:
    """
    The last line, cut where the digits of its hash belong.
    """
    before, _, after = _encode(msgspec.structs.replace(end, sha256="?")).rpartition(b"?")
    return before, after + b"\n"


def decode_head(line: bytes) -> Head:
    """
    The first line of a file.

    :raises NotABackup: it is something else, or of a form that this version does not know.
    """
    try:
        head = _head.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotABackup("is no backup: its first line is not that of one") from error
    if head.export != EXPORT_FORM or head.backup not in {0, FORM}:
        raise NotABackup("was written by a newer version of dcounter: use that one")
    return head


def decode_end(line: bytes) -> tuple[End, bytes]:
    """
    The last line, and the part of it that its hash covers.

    :raises Damaged: it is not what was written.
    """
    try:
        end = _end.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged("is damaged in its last line") from error
    if not end.sha256:
        return end, line
    sealed = _SEALED.fullmatch(line)
    if sealed is None:
        raise Damaged("is damaged in its last line")
    return end, sealed[1]


def seal(sha256: str) -> bytes:
    """
    The last frame of a compressed backup.

    :param sha256: of all bytes before it.
    """
    said = f"sha256 {sha256}".encode()
    return SEAL + len(said).to_bytes(4, "little") + said
