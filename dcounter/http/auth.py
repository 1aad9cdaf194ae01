"""
The token that only the operator has, for requests that restart or remove nodes.

Unlike an address, no proxy adds it by itself.
"""

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

_BEARER: Final = re.compile(rb"bearer +([!-~]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """
    The operator's token, and the file that holds it.

    :ivar path: the file; absolute, because error messages name it.
    """

    path: str
    value: bytes = field(repr=False)

    def matches(self, authorization: bytes) -> bool:
        """
        Whether an `Authorization` header holds this token, compared in constant time.
        """
        found = _BEARER.fullmatch(authorization)
        return found is not None and hmac.compare_digest(found[1], self.value)
