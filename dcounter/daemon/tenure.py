"""
Holds the data directory of a daemon while the daemon runs.
"""

import os
from collections.abc import Callable

from twisted.application.service import Service

from dcounter.daemon.data_directory import DataDirectory
from dcounter.daemon.setting_aside import SettingAside
from dcounter.errors import ConfigurationError


class Tenure(Service):
    """
    Uses the data directory for as long as the daemon runs: starts first, stops last.

    :param aside: journals to set aside before the nodes start. That happens after HTTP has begun to listen,
        so a start that fails changes nothing.
    :param wall: the clock (ns since 1970).
    :param in_background: twistd has left the terminal, and would wait for ever after a `SystemExit`.
    """

    def __init__(
        self,
        directory: DataDirectory,
        aside: SettingAside | None,
        *,
        wall: Callable[[], int],
        in_background: bool = False,
    ) -> None:
        self._directory = directory
        self._aside = aside
        self._wall = wall
        self._in_background = in_background

    def startService(self) -> None:
        super().startService()
        self._directory.begin(os.getpid())
        if self._aside is not None:
            try:
                self._aside.perform(self._wall())
            except ConfigurationError as error:
                if self._in_background:
                    raise
                raise SystemExit(f"dcounter does not start: {error}") from error

    def stopService(self) -> None:
        super().stopService()
        self._directory.close()
