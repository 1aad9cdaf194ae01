"""
Makes a failing story shorter.
"""

from dataclasses import replace

from dcounter.testing.play import play
from dcounter.testing.setting import Setting


def shrink(seed: int, setting: Setting) -> Setting:
    """
    Leave out all events of a failing story without which it fails all the same.
    """
    size = setting.events // 2
    while size:
        for first in range(0, setting.events, size):
            fewer = replace(setting, without=setting.without | set(range(first, first + size)))
            if fewer.without != setting.without and play(seed, fewer).problems:
                setting = fewer
        size //= 2
    return setting
