"""
What nodes keep on disk, read when they have stopped.
"""

import time
from pathlib import Path

from twisted.internet.task import Clock

from dcounter.datadir import node_directory
from dcounter.disk import RealDisk
from dcounter.journal import FileJournal
from dcounter.ledger import Ledger
from dcounter.limits import Limits
from dcounter.replica import Replica
from tests.replicas import InTurn  # type: ignore[attr-defined]
