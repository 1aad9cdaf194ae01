"""
The limit on the file descriptors of this process.
"""

import resource

from twisted.application.service import Service
from twisted.logger import Logger

_log = Logger()


class Descriptors(Service):
    """
    Raises the limit on file descriptors to what the connections of this process may need, if permitted.

    Otherwise strangers that connect to a node's port could use up all descriptors, with none left for
    callers.

    :param wanted: how many file descriptors the process may need.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = self._wanted if hard == resource.RLIM_INFINITY else min(self._wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < self._wanted:
            _log.warn(
                "only {most} file descriptors are permitted, but all connections together may need {wanted}",
                most=most,
                wanted=self._wanted,
            )
