"""
The batch: the items that a node journals under one number, and their encoding in messages.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from dcounter.errors import MalformedMessage, UnknownNeeds
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import Stamp

_T = TypeVar("_T")

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Natural = Annotated[int, Meta(ge=0, le=MAX_STAMP)]
Positive = Annotated[int, Meta(ge=1, le=MAX_STAMP)]
Tenant = Annotated[str, Meta(min_length=1)]
RequestId = Annotated[int, Meta(ge=0, le=MAX_STAMP)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
LONG, INT = np.dtype("<i8"), np.dtype("<i4")
Packed = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], Sequence[str | None]]
"""
Items as columns: IDs, stamps, owners (for each item, the index of its tenant) and tenants.
"""


NEEDS: AbstractSet[str] = frozenset()
"""
The additions that this version of dcounter knows, and batches and copies may need. Later versions know more.
"""


class Batch(Struct, frozen=True, omit_defaults=True):
    """
    The items that a node journals under one number: slices of one or several requests, as columns.

    A batch has either `bases` or `stamps`. It is plain, which people can read and which suits few items, or
    packed, which is read several times as fast: then columns of numbers are little-endian, and in base64 in
    JSON.

    :ivar slices: items per slice; slices follow each other in the columns.
    :ivar ids: one ID per item; packed, 8 bytes each.
    :ivar tenants: one tenant per item; packed, names; `None` is a tombstone.
    :ivar bases: the stamp of each slice's first item; each further item is one tick later.
    :ivar stamps: one stamp per item; packed, 8 bytes each.
    :ivar owners: packed only, 4 bytes per item: the index of its tenant in `tenants`.
    :ivar needs: names of additions without which the batch would be misread: a node that does not know one of
        them must refuse the batch. Unknown fields that are not named there are ignored, and kept.
    """

    slices: list[Positive]
    ids: list[Int64] | bytes
    tenants: list[Tenant | None]
    bases: list[Stamp] | None = None
    stamps: list[Stamp] | bytes | None = None
    owners: bytes | None = None
    needs: list[str] = []

    def __post_init__(self) -> None:
        items = self.items
        packed = self.owners is not None
        if isinstance(self.ids, bytes) != packed or isinstance(self.stamps, list if packed else bytes):
            raise ValueError("columns of a batch are neither all packed nor all plain")
        width = 8 if packed else 1
        last = len(self.tenants) if self.owners is None else len(self.owners) / 4
        if len(self.ids) != width * items or last != items:
            raise ValueError("columns of a batch differ in length")
        if self.stamps is not None:
            if self.bases is not None or len(self.stamps) != width * items:
                raise ValueError("stamps do not fit the items")
        elif self.bases is None or len(self.bases) != len(self.slices):
            raise ValueError("bases do not fit the slices")
        elif any(b + n - 1 > MAX_STAMP for b, n in zip(self.bases, self.slices, strict=True)):
            raise ValueError("stamps exceed the largest one")
        if self.owners is not None:
            check_columns(self.owners, self.tenants, self.stamps if isinstance(self.stamps, bytes) else b"")

    @property
    def items(self) -> int:
        """
        How many items the batch has.
        """
        return sum(self.slices)

    def pack(self) -> "Batch":
        """
        The same batch, packed.
        """
        names = {name: i for i, name in enumerate(dict.fromkeys(self.tenants))}
        owners = np.fromiter(map(names.__getitem__, self.tenants), INT, len(self.tenants))
        stamps = None if self.stamps is None else np.array(self.stamps, LONG).tobytes()
        ids = np.array(self.ids, LONG).tobytes()
        return Batch(self.slices, ids, list(names), self.bases, stamps, owners.tobytes(), self.needs)

    def packed(self) -> Packed | None:
        """
        The items of a packed batch; `None` if the batch is plain.
        """
        if self.owners is None or not isinstance(self.ids, bytes):
            return None
        if isinstance(self.stamps, bytes):
            stamps = np.frombuffer(self.stamps, LONG)
        else:
            # Each slice begins at its base and counts up by one. One step for all slices, since there may be
            # many.
            sizes = np.array(self.slices, LONG)
            begins = np.array(self.bases, LONG) - (np.cumsum(sizes) - sizes)
            stamps = np.arange(self.items, dtype=LONG) + np.repeat(begins, sizes)
        return np.frombuffer(self.ids, LONG), stamps, np.frombuffer(self.owners, INT), self.tenants

    def rows(self) -> tuple[Sequence[int], Sequence[int], Sequence[str | None]]:
        """
        ID, stamp and tenant of each item of a plain batch.
        """
        assert isinstance(self.ids, list)
        return self.ids, self.item_stamps(), self.tenants

    def unpacked(self) -> tuple[Sequence[int], Sequence[int], Sequence[str | None]]:
        """
        ID, stamp and tenant of each item, whether the batch is packed or not.
        """
        packed = self.packed()
        if packed is None:
            return self.rows()
        ids, stamps, owners, tenants = packed
        return ids.tolist(), stamps.tolist(), [tenants[owner] for owner in owners.tolist()]

    def item_stamps(self) -> Sequence[int]:
        """
        One stamp per item of a plain batch.
        """
        if self.stamps is not None:
            assert isinstance(self.stamps, list)
            return self.stamps
        assert self.bases is not None
        spans = [range(b, b + n) for b, n in zip(self.bases, self.slices, strict=True)]
        return spans[0] if len(spans) == 1 else list(chain.from_iterable(spans))

    def largest_stamp(self) -> int:
        """
        The largest stamp of any item; 0 for a batch without items.
        """
        if isinstance(self.stamps, bytes):
            return int(np.frombuffer(self.stamps, LONG).max(initial=0))
        if self.stamps is not None:
            return max(self.stamps, default=0)
        assert self.bases is not None
        return max((b + n - 1 for b, n in zip(self.bases, self.slices, strict=True)), default=0)

    def smallest_stamp(self) -> int:
        """
        The smallest stamp of any item; the largest possible one for a batch without items.
        """
        if isinstance(self.stamps, bytes):
            return int(np.frombuffer(self.stamps, LONG).min(initial=MAX_STAMP))
        if self.stamps is not None:
            return min(self.stamps, default=MAX_STAMP)
        assert self.bases is not None
        return min(self.bases, default=MAX_STAMP)

    def items_above(self, stamp: int) -> "Batch":
        """
        The items with later stamps, as one slice.
        """
        rows = [row for row in zip(*self.unpacked(), strict=True) if row[1] > stamp]
        return Batch(
            [len(rows)] if rows else [],
            [item for item, _, _ in rows],
            [tenant for _, _, tenant in rows],
            stamps=[each for _, each, _ in rows],
        )

    def above(self, stamp: int) -> tuple["Batch | None", list[int]]:
        """
        The batch without the slices that have an item with this stamp or an older one.

        :returns: `None` if there are no others; and which slices are left out.
        """
        ids, stamps, tenants = self.unpacked()
        columns: tuple[list[int], list[int], list[str | None]] = ([], [], [])
        sizes: list[int] = []
        left_out: list[int] = []
        first = 0
        for i, size in enumerate(self.slices):
            part = slice(first, first + size)
            first += size
            if min(stamps[part]) <= stamp:
                left_out.append(i)
                continue
            sizes.append(size)
            columns[0].extend(ids[part])
            columns[1].extend(stamps[part])
            columns[2].extend(tenants[part])
        if not sizes:
            return None, left_out
        kept = Batch(sizes, columns[0], columns[2], stamps=columns[1], needs=self.needs)
        return kept if self.owners is None else kept.pack(), left_out


def unknown_needs(needs: Iterable[str]) -> list[str]:
    """
    The names that this version does not know.
    """
    return [name for name in needs if name not in NEEDS]


def check_columns(owners: bytes, tenants: Sequence[str | None], stamps: bytes) -> None:
    """
    Check columns that came over the wire. A negative number counts as a very large one.

    :raises ValueError: a number is out of range.
    """
    if owners and np.frombuffer(owners, "<u4").max() >= len(tenants):
        raise ValueError("an owner is out of range")
    if stamps and np.frombuffer(stamps, "<u8").max() > MAX_STAMP:
        raise ValueError("a stamp is out of range")


_encoder = msgspec.json.Encoder()
_batch_decoder = msgspec.json.Decoder(Batch)
# RecursionError: JSON nested too deep; UnicodeDecodeError: text that is not UTF-8; both are the sender's
# fault.
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decoded(decoder: msgspec.json.Decoder[_T], raw: Raw | bytes, what: str) -> _T:
    """
    Decode bytes that came from another process or from a file.

    :param what: what the bytes should be, for the error's text.
    :raises MalformedMessage: they are something else.
    """
    try:
        return decoder.decode(raw)
    except _MALFORMED as error:
        raise MalformedMessage(f"not {what}: {error}") from error


def encode_batch(batch: Batch) -> bytes:
    """
    Encode a batch as the raw field of `Store` and `Record`.
    """
    return _encoder.encode(batch)


def decode_batch(raw: Raw | bytes) -> Batch:
    """
    Decode the raw field of `Store` and `Record`.

    :raises MalformedMessage: it is not a batch.
    :raises UnknownNeeds: a newer version made the batch, and this version would misread it.
    """
    batch = decoded(_batch_decoder, raw, "a batch")
    if batch.needs:
        unknown = unknown_needs(batch.needs)
        if unknown:
            raise UnknownNeeds(unknown, slices=len(batch.slices))
    return batch
