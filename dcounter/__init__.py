"""
A daemon that counts items per tenant, exactly.
"""

__version__ = "0.1.0"
