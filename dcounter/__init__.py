"""
A daemon that counts items per tenant, exactly.
"""

__version__ = "0.2.0.dev0"
