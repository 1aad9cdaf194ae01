"""
Reads the configuration again at SIGHUP, and uses what may change while the daemon runs.
"""

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.usage import UsageError

from dcounter.daemon.options import ConfiguredOptions
from dcounter.daemon.settings import shown

_log = Logger()


class Reloading:
    """
    Compares what the configuration file says with what is in use.

    :param options: those that the process was started with. They always hold what is in use.
    """

    def __init__(self, options: ConfiguredOptions) -> None:
        self._options = options
        self._uses: dict[str, Callable[[Any], None]] = {}

    def on_change(self, name: str, use: Callable[[Any], None]) -> None:
        """
        Set what makes a new value of an option take effect.
        """
        self._uses[name] = use

    @property
    def changeable(self) -> frozenset[str]:
        """
        The options that may change while the process runs.
        """
        return frozenset(self._uses)

    def reload(self) -> None:
        """
        Use what the file says now; if it has a mistake, change nothing.
        """
        if self._options.file is None:
            return
        try:
            found = self._options.reread()
        except UsageError as error:
            for line in str(error).splitlines():
                _log.error("{error}; the options that were read before stay in use", error=line)
            return
        for setting in self._options.settings:
            name = setting.name
            old, new = self._options[name], found[name]
            if old == new:
                continue
            if name in self._uses:
                self._options[name] = new
                self._uses[name](new)
                _log.info(
                    "{name} is {new} now, it was {old} ({source})",
                    name=name,
                    new=_said(new),
                    old=_said(old),
                    source=found.source_of(name),
                )
            else:
                _log.warn(
                    "{name} is {new} in {file}, but {old} until dcounter is restarted",
                    name=name,
                    new=_said(new),
                    old=_said(old),
                    file=self._options.file,
                )


def _said(value: Any) -> str:
    return shown(value) or "not set"
