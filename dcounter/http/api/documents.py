"""
The documents that describe the API: for programs and for people.
"""

from dcounter.http.call import Api, Call
from dcounter.http.problems import Answer


async def openapi(api: Api, call: Call) -> Answer:
    """
    `GET /openapi.json`
    """
    return Answer(200, api.document)


async def docs(api: Api, call: Call) -> Answer:
    """
    `GET /docs`
    """
    return api.page
