"""
What nodes and coordinators share: messages, positions and stamps. Pure.
"""
