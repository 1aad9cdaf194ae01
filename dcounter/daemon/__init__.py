"""
The daemon: its options and wiring, its processes and their supervision, its data directory and its log.
"""
