"""
The user that a daemon becomes: `twistd --uid` and `--gid`.

`twistd` changes the user after everything is built and the ports are bound. Files that are made before that,
above all in the data directory, must belong to that user.
"""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dcounter.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Account:
    """
    A user and a group; `None` for what this process has already.
    """

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Account":
        """
        The account that the options of `twistd` name.

        :raises ConfigurationError: this process cannot become that user.
        """
        uid, gid = options.get("uid"), options.get("gid")
        if uid is not None and gid is None:
            try:
                gid = pwd.getpwuid(uid).pw_gid
            except KeyError as error:
                raise ConfigurationError(
                    f"--uid: this machine has no user {uid}, so its group is unknown: give --gid as well"
                ) from error
        if os.geteuid() != 0 and (uid not in {None, os.geteuid()} or gid not in {None, os.getegid()}):
            raise ConfigurationError("--uid and --gid: only root can become another user: start it as root")
        return cls(uid, gid)

    def own(self, descriptor: int) -> None:
        """
        Make this user the owner of a file that was just made.
        """
        if self._changes:
            os.fchown(descriptor, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """
        Act with the rights of this user meanwhile.
        """
        if not self._changes:
            yield
            return
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        if self.gid is not None:
            os.setgroups(self._groups(self.gid))
            os.setegid(self.gid)
        if self.uid is not None:
            os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)

    @property
    def _changes(self) -> bool:
        return self.uid not in {None, os.geteuid()} or self.gid not in {None, os.getegid()}

    def _groups(self, gid: int) -> list[int]:
        """
        The groups that `twistd` will give to the user.
        """
        if self.uid is None:
            return os.getgroups()
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, gid)
        except KeyError:
            return [gid]
