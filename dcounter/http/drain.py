"""
A daemon that is about to stop: it still answers, and says that no further requests should come.
"""


class Drain:
    """
    Whether the daemon is about to stop.

    :ivar begun: it is: checks of its health fail, and each connection ends with its next answer.
    """

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """
        Have callers go elsewhere.
        """
        self.begun = True
