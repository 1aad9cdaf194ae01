"""
Shows the figures that the daemon keeps about itself.
"""

from dcounter.figures import merged
from dcounter.http.call import Api, Call
from dcounter.http.exposition import exposed
from dcounter.http.problems import Answer


async def show(api: Api, call: Call) -> Answer:
    """
    `GET /metrics`
    """
    of_store = () if api.measure is None else await api.measure()
    accept = b",".join(call.headers.get(b"accept", ())).decode("latin-1")
    stream, content_type = exposed(merged([*api.figures.samples(), *of_store]), accept)
    # Others have their turns between two parts: to write all of it at once may take 10 ms.
    return Answer(200, b"", content_type.encode(), stream=stream)
