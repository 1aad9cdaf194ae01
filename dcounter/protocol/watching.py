"""
The messages by which a coordinator learns whose counts change.

The coordinator asks again and again, and each answer tells what has changed since the one before on the same
connection. So a coordinator that has no time gets fewer and later answers, never more than it takes.
"""

from msgspec import Struct

from dcounter.protocol.batch import Milliseconds, Natural, RequestId, Tenant
from dcounter.protocol.position import Position, Stamp


class Watch(Struct, frozen=True, tag="watch", omit_defaults=True):
    """
    Asks which tenants' counts have changed; answered by `Changed`.

    It is sent only to a node with the feature `watch`.

    :ivar goes_on: tell what has changed since the last answer on this connection; otherwise begin now.
    :ivar required: what the node must have before it begins.
    :ivar wait: how long (ms) the node may wait until something has changed.
    """

    request: RequestId
    goes_on: bool = False
    required: Position = Position()
    wait: Milliseconds = 0


class Changed(Struct, frozen=True, tag="changed", omit_defaults=True):
    """
    Tenants whose counts have changed, and their counts, all at the same moment.

    :ivar complete: whether the node has what is required; if not, it tells nothing and has not begun.
    :ivar position: what the counts include.
    :ivar begins: nothing is known of changes before this answer; those after it come with the next ones.
    """

    request: RequestId
    complete: bool
    position: Position
    stamp: Stamp
    begins: bool = False
    tenants: list[Tenant] = []
    counts: list[Natural] = []
