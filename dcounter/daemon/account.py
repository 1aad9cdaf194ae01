"""
The user that a daemon becomes: `twistd --uid` and `--gid`.

`twistd` changes the user when everything is built and the ports are bound. Whatever is made before that, in
the data directory above all, must belong to that user.
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
    A user and a group; `None` for the ones that this process has already.
    """

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Account":
        """
        What the options of `twistd` say.

        :raises ConfigurationError: nobody can become that.
        """
        uid, gid = options.get("uid"), options.get("gid")
        if uid is not None and gid is None:
            try:
                gid = pwd.getpwuid(uid).pw_gid
            except KeyError as error:
                raise ConfigurationError(
                    f"--uid: this machine knows no user {uid}, and so no group of it: give --gid, too"
                ) from error
        if os.geteuid() != 0 and (uid not in {None, os.geteuid()} or gid not in {None, os.getegid()}):
            raise ConfigurationError("--uid and --gid: only root can become another user: start it as root")
        return cls(uid, gid)

    def own(self, descriptor: int) -> None:
        """
        Give something that was just made to this user.
        """
        if self._changes:
            os.fchown(descriptor, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """
        What is done meanwhile is done, permitted and forbidden as for this user.
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
        The groups that the user will have, as `twistd` gives them.
        """
        if self.uid is None:
            return os.getgroups()
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, gid)
        except KeyError:
            return [gid]
