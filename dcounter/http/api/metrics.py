"""
Shows the figures that the daemon keeps about itself.
"""

from dcounter.http.call import Api, Call
from dcounter.http.exposition import exposed
from dcounter.http.problems import Answer


async def show(api: Api, call: Call) -> Answer:
    """
    `GET /metrics`
    """
    accept = b",".join(call.headers.get(b"accept", ())).decode("latin-1")
    text, content_type = exposed(api.figures.measured(), accept)
    return Answer(200, text, content_type.encode())
