"""
Every bound of the HTTP side, by name, with its default and its reason.

`docs/http.md` has the same table for people.
"""

from dataclasses import dataclass

from dcounter.limits import MEBIBYTE


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """
    The bounds. Times are seconds, sizes bytes, unless said otherwise.

    :ivar max_body: size of one body; larger ones are refused before, or cut off while, they arrive.
    :ivar max_items: items of one request; no body of the default size holds as many, so it is for
        those who raise `max_body`.
    :ivar max_tenant_bytes: length of a tenant name as UTF-8.
    :ivar max_connections: connections served at once; leaves room for the nodes' below the 1,024
        descriptors that a process usually has.
    :ivar spare_connections: connections beyond that are told so; still more are closed unheard.
    :ivar max_bodies: bodies held in memory at once, all together.
    :ivar small_body: a body up to here is taken even then, so that who sends large bodies slowly
        stops nobody but his like.
    :ivar idle: silence, between requests or within one, after which a connection is closed. Longer than
        the 60 s that load balancers keep theirs for reuse: the end that may send next must not be the last
        to know.
    :ivar linger: time a refused caller has to read the answer before its connection is cut.
    """

    max_body: int = 16 * MEBIBYTE
    max_items: int = 1_000_000
    max_tenant_bytes: int = 256
    max_connections: int = 800
    spare_connections: int = 64
    max_bodies: int = 512 * MEBIBYTE
    small_body: int = 64 * 1024
    idle: float = 75.0
    linger: float = 2.0
