"""
The pages of the daemon, and the documents that describe the API: for programs and for people.
"""

from dcounter.http.call import Api, Call
from dcounter.http.dashboard_files import PAGE, unless_known
from dcounter.http.problems import Answer, UnknownPath


async def dashboard(api: Api, call: Call) -> Answer:
    """
    `GET /`
    """
    return unless_known(api.dashboard[PAGE], call.headers)


async def dashboard_file(api: Api, call: Call) -> Answer:
    """
    `GET /dashboard/{file}`
    """
    found = api.dashboard.get(call.parameters["file"])
    if found is None:
        raise UnknownPath
    return unless_known(found, call.headers)


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
