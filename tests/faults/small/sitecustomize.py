"""
Runs at the start of every Python that has this folder in its path: other bounds than the usual ones.

A node begins a new segment after 64 MiB and gives a copy to whoever lags by more: a test would have to write
for minutes until any of that happens.
"""

import os

from dcounter.limits import Limits

bounds = dict(each.split("=") for each in os.environ.get("DCOUNTER_TEST_LIMITS", "").split())
if bounds:
    init = Limits.__init__
    init.__defaults__ = tuple(
        type(default)(bounds.get(name, default))
        for name, default in zip(Limits.__dataclass_fields__, init.__defaults__ or (), strict=True)
    )
