"""
Words that requests, answers and stores share. `dcounter.store` exports them.
"""

from typing import Literal

Ack = Literal["node", "primary", "majority", "all"]
"""
Which nodes must have written the items before the answer, from the weakest to the strongest promise.
"""

Consistency = Literal["exact", "available", "eventual"]
"""
What a count may answer: only the exact number; the best number available, and whether it is complete; or what
the primary has at once.
"""

Order = Literal["name", "-count"]
"""
How tenants are listed: in the order of their names as UTF-8 bytes, or those that own most first and, of those
that own as many, in the order of their names.
"""
