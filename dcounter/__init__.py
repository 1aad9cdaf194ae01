"""
A daemon that counts items per tenant, exactly.
"""

import os

__version__ = "0.2.0.dev0"

# A hash table that has grown is written to all over: in pages of 2 MiB, the system would have to clear all of
# it in that moment, a quarter of a second with 10 million items. NumPy looks at this when it is imported.
os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
