"""
The items and their owners, as NumPy columns. Pure.
"""
