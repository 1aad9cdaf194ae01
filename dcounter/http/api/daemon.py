"""
What the daemon says of itself.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer, NotReady, ok


class Alive(Struct, frozen=True):
    """
    The answer of a process that lives.
    """

    status: Literal["OK"]


class Ready(Struct, frozen=True):
    """
    The answer of a daemon to which callers may be sent.
    """

    exact: bool
    missing: Sequence[int]
    warnings: Sequence[str]


async def healthz(api: Api, call: Call) -> Answer:
    """
    `GET /healthz`
    """
    return ok(Alive("OK"))


async def readyz(api: Api, call: Call) -> Answer:
    """
    `GET /readyz`
    """
    found = api.store.readiness()
    if not found.ready:
        raise NotReady(exact=found.exact, missing=found.missing, warnings=found.warnings)
    return ok(Ready(found.exact, found.missing, found.warnings))


async def openapi(api: Api, call: Call) -> Answer:
    """
    `GET /openapi.json`
    """
    return Answer(200, api.document)
