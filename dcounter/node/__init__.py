"""
A node: the replica, which is pure, and the service around it.
"""
