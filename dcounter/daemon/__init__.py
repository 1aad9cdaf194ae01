"""
How a daemon is put together, started, watched and stopped, and the directory that it has.
"""
