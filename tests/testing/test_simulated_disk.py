"""
What a simulated disk keeps when the power fails.
"""

from random import Random

from dcounter.testing import SimulatedDisk


def test_a_rename_that_survives_a_loss_of_power_names_no_other_file() -> None:
    for seed in range(50):
        disk = SimulatedDisk()
        disk.open()
        disk.create("new").write(b"given up")
        disk.remove("new")
        file = disk.create("new")
        file.write(b"whole")
        file.sync()
        disk.rename("new", "old")
        disk.lose_power(Random(seed))
        disk.open()
        assert "old" not in disk.list() or disk.read("old") == b"whole"
