"""
Every bound of the HTTP side, by name, with its default and its reason.

`docs/http.md` has the same table for people.
"""

from dataclasses import dataclass

from dcounter.limits import MEBIBYTE


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """
    The bounds. A name ends with its unit: `_s` is seconds.

    :ivar max_body_bytes: size of one body; larger ones are refused before, or cut off while, they arrive.
    :ivar max_items: items of one request; no body of the default size holds as many, so it is for those who
        raise `max_body`.
    :ivar max_tenant_bytes: length of a tenant name as UTF-8.
    :ivar max_connections: connections served at once; leaves room for the nodes' below the 1,024
        descriptors that a process usually has.
    :ivar spare_connections: connections beyond that are told so; still more are closed unheard.
    :ivar max_bodies_bytes: bodies held in memory at once, all together.
    :ivar small_body_bytes: a body up to here is taken even then, so that who sends large bodies slowly
        stops nobody but his like.
    :ivar idle_s: silence, between requests or within one, after which a connection is closed. Longer than
        the 60 s that load balancers keep theirs for reuse: the end that may send next must not be the last
        to know.
    :ivar linger_s: time a refused caller has to read the answer before its connection is cut.
    """

    max_body_bytes: int = 16 * MEBIBYTE
    max_items: int = 1_000_000
    max_tenant_bytes: int = 256
    max_connections: int = 800
    spare_connections: int = 64
    max_bodies_bytes: int = 512 * MEBIBYTE
    small_body_bytes: int = 64 * 1024
    idle_s: float = 75.0
    linger_s: float = 2.0
