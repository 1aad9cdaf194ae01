"""
Short proofs that a story is still the same.
"""

from hashlib import sha256

from dcounter.testing.play import play
from dcounter.testing.setting import Setting


def digest(seed: int, events: int) -> list[str]:
    """
    The digests of a seed's whole stories, with and without disks.

    A change that only moves code leaves them as they were.
    """
    stories = (play(seed, Setting(disks=disks, events=events), trace=True) for disks in (True, False))
    return [sha256("\n".join([*each.log, *each.problems]).encode()).hexdigest() for each in stories]
