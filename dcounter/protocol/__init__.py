"""
What both kinds of process share: messages, positions, stamps; pure.
"""
