"""
What the daemon reports about itself.
"""

from dcounter.errors import NotSupportedHere
from dcounter.http.answer_bodies import Alive, Ready
from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer, NotReady, ok


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


async def not_supported(api: Api, call: Call) -> Answer:
    """
    What the store of this daemon cannot do.
    """
    raise NotSupportedHere("the store of this daemon cannot do this; see /openapi.json for what it can do")
