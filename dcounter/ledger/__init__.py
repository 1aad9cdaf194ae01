"""
Which items there are and whose they are: NumPy columns; pure.
"""
