"""
The messages by which a coordinator learns the figures of a node, to show them at `GET /metrics`.
"""

from msgspec import Struct

from dcounter.figures import Samples
from dcounter.protocol.batch import RequestId
from dcounter.protocol.position import Position


class Scrape(Struct, frozen=True, tag="scrape"):
    """
    Asks for the figures of a node; answered by `Scraped`. Only to a node that has some (`abilities.SCRAPES`).
    """

    request: RequestId


class Scraped(Struct, frozen=True, tag="scraped"):
    """
    The figures of a node, and of its process.

    :ivar applied: what its counts include.
    :ivar measured: the figures, with their names: a coordinator shows also those that it does not know.
    """

    request: RequestId
    applied: Position
    measured: list[Samples]
