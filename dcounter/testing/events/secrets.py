"""
A change of the cluster's secret.
"""

from dcounter.testing.world import World


def change_secret(world: World) -> None:
    """
    Some processes take the present step of a change; if none is behind, the next step begins.

    Those that are down take it as well: they find it when they start.
    """
    secrets = world.cluster.processes.secrets
    if not secrets.behind:
        accepted = secrets.begin_step()
        world.history.note(f"the next step of a change of the secret begins: {len(accepted)} are accepted")
    behind = secrets.behind
    taking = world.random.sample(behind, world.random.randint(1, len(behind)))
    for process in taking:
        secrets.take_step(process)
    world.history.note(f"{sorted(taking)} take the step")
