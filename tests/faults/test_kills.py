import os
from pathlib import Path

from tests.faults.conftest import Table
from tests.faults.kills import kill_loop

ROUNDS = int(os.environ.get("DCOUNTER_KILL_ROUNDS", "50"))
SEED = int(os.environ.get("DCOUNTER_KILL_SEED", "1"))

SMALL = {"segment": 64 * 1024, "snapshot": 512 * 1024, "log": 16 * 1024, "piece": 500}
"""
Bounds that make nodes take snapshots and copies all the time.
"""


def test_what_was_acknowledged_survives_kill_9_of_anything(tmp_path: Path, table: Table) -> None:
    table(kill_loop(tmp_path, ROUNDS, seed=SEED))


def test_what_was_acknowledged_survives_kill_9_amid_snapshots_and_copies(
    tmp_path: Path, table: Table
) -> None:
    table(kill_loop(tmp_path, ROUNDS // 2, seed=SEED, name="kill -9, small bounds", limits=SMALL))
