"""
Tells twistd about dcounter.

Data only: twistd imports this file whenever it lists its plugins, so it must not import dcounter,
and above all not Klein, which installs a reactor and so defeats ``--reactor``.
"""

from twisted.application.service import ServiceMaker

dcounter = ServiceMaker(
    "dcounter",
    "dcounter.tap",
    "Count items per tenant, exactly: a coordinator, its nodes and their HTTP API.",
    "dcounter",
)
