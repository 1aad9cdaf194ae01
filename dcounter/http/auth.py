"""
What a request has to show that only the operator may make: to restart a node, or to remove one.

It is a token. Unlike an address, no proxy adds it by itself.
"""

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

_BEARER: Final = re.compile(rb"bearer +([!-~]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """
    The token, and where operators find it.

    :ivar path: the file; absolute, since errors name it.
    """

    path: str
    value: bytes = field(repr=False)

    def is_shown(self, authorization: bytes) -> bool:
        """
        Whether a header `Authorization` holds this token; how long that takes tells nothing of it.
        """
        found = _BEARER.fullmatch(authorization)
        return found is not None and hmac.compare_digest(found[1], self.value)
