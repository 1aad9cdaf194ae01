"""
What the requests of operators have in common.
"""

from twisted.logger import Logger

from dcounter.errors import NotSupported
from dcounter.http.call import Api, Call
from dcounter.http.tracing import in_words, names
from dcounter.store import Operator

_log = Logger()


def operator_of(api: Api) -> Operator:
    """
    What operates on the nodes.

    :raises NotSupported: there are none.
    """
    if api.operator is None:
        raise NotSupported("this daemon has no nodes")
    return api.operator


def log_request(call: Call, request: str) -> None:
    """
    Log what an operator asked for.

    :param request: follows "asked", such as `to compact`.
    """
    _log.info(
        "{principal} at {peer} asked {request}{named}",
        principal=call.principal.name,
        peer=getattr(call.peer, "host", "a Unix socket"),
        request=request,
        named=in_words(names(call.headers)),
    )
