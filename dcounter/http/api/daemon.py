"""
What the daemon reports about itself.
"""

from msgspec import UNSET

from dcounter import __version__
from dcounter.errors import NotSupportedHere
from dcounter.http.answer_bodies import Alive, Check, Ready
from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer, NotReady, Stopping, ok


async def livez(api: Api, call: Call) -> Answer:
    """
    `GET /livez`
    """
    return ok(Alive("OK", [_process()] if _is_verbose(call) else UNSET))


async def healthz(api: Api, call: Call) -> Answer:
    """
    `GET /healthz`
    """
    if api.drain.begun:
        raise Stopping
    return ok(Alive("OK", _checks(api) if _is_verbose(call) else UNSET))


async def readyz(api: Api, call: Call) -> Answer:
    """
    `GET /readyz`
    """
    if api.drain.begun:
        raise Stopping
    found = api.store.readiness()
    if not found.ready:
        raise NotReady(exact=found.exact, missing=found.missing, warnings=found.warnings)
    return ok(Ready(found.exact, found.missing, found.warnings))


def _is_verbose(call: Call) -> bool:
    return call.parameters.get("verbose", "0") != "0"


def _process() -> Check:
    return Check("process", ok=True, detail=f"dcounter {__version__} answers")


def _checks(api: Api) -> list[Check]:
    """
    What the health of the daemon consists of. Only the first two decide on the answer.
    """
    found = api.store.readiness()
    nodes = ", ".join(map(str, found.missing))
    return [
        _process(),
        Check("stopping", ok=True, detail="the daemon is not about to stop"),
        Check(
            "ready",
            found.ready,
            "writes are taken, and a primary answers"
            if found.ready
            else "writes are not taken, or no primary answers",
        ),
        Check(
            "exact",
            found.exact,
            "counts are exact"
            if found.exact
            else f"counts are not exact: they may lack items of nodes {nodes}",
        ),
    ]


async def not_supported(api: Api, call: Call) -> Answer:
    """
    What the store of this daemon cannot do.
    """
    raise NotSupportedHere("the store of this daemon cannot do this; see /openapi.json for what it can do")
