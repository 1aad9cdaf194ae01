"""
Backups: files that hold everything that a cluster stores, and prove that they still do.
"""
