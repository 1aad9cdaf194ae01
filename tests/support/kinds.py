"""
All kinds of refusals that there are.
"""

from collections.abc import Iterator

from dcounter.errors import Refusal
from dcounter.http.problems import HttpRefusal

# All modules that define refusals.
from dcounter.http.table import ROUTES


def kinds(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    """
    The classes of all refusals that have a code.
    """
    for each in kind.__subclasses__():
        if each is not HttpRefusal:
            yield each
        yield from kinds(each)


assert ROUTES
PROBLEMS = {kind.code: kind for kind in kinds()}
