import os
from pathlib import Path

from tests.faults.conftest import Table
from tests.faults.kills import kill_loop


def test_what_was_acknowledged_survives_kill_9_of_anything(tmp_path: Path, table: Table) -> None:
    rounds = int(os.environ.get("DCOUNTER_KILL_ROUNDS", "50"))
    seed = int(os.environ.get("DCOUNTER_KILL_SEED", "1"))
    table(kill_loop(tmp_path, rounds, seed=seed))
