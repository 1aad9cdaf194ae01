"""
Puts a node by itself together, which a daemon or an operator has started as a process of its own.
"""

import os
from dataclasses import replace
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger

from dcounter.daemon.account import Account
from dcounter.daemon.at_hangup import rotation
from dcounter.daemon.children import BOOT_VARIABLE, die_with, report_progress
from dcounter.daemon.data_directory import open_node_directory
from dcounter.daemon.descriptors import Descriptors
from dcounter.daemon.instructions import LOG_LEVEL, SECRETS, Instructions
from dcounter.daemon.notifying import Heartbeat, Notifier
from dcounter.daemon.options import HOST, SECRET_VARIABLE, NodeOptions, twistd_options
from dcounter.daemon.process import Process
from dcounter.daemon.process_figures import ProcessFigures
from dcounter.daemon.reloading import Reloading
from dcounter.daemon.remedies import RESTORE, SET_ASIDE
from dcounter.daemon.secrets import ClusterSecrets, from_hexadecimal, identity_of, read_secrets
from dcounter.daemon.tls import tls_of_peers
from dcounter.daemon.wiring import Wiring, addresses_of, limits_of, refuse_chroot
from dcounter.node.progress import CANNOT_START, Progress

_log = Logger()


def make_node(options: NodeOptions, reactor: Any) -> IService:
    if options["parent"]:
        die_with(options["parent"])
    inherited = os.environ.pop(SECRET_VARIABLE, None)
    if inherited:
        read = ClusterSecrets(None, from_hexadecimal(inherited))
    else:
        read = read_secrets(options["secret-file"])
    limits = limits_of(options)
    places = {**options["peers"], options["id"]: (options["interface"] or HOST, options["port"])}
    addresses = addresses_of([places[node] for node in sorted(places)], limits)
    refuse_chroot(options)
    boot = os.environ.pop(BOOT_VARIABLE, "") if inherited else ""
    identity = replace(identity_of(read, list(addresses), options["cluster"]), boot=boot)
    tls = tls_of_peers(options)
    wiring = Wiring(reactor, identity, addresses, limits, tls)
    path = None
    if not options["in-memory"]:
        path = open_node_directory(
            options["data-dir"], account=Account.of(twistd_options(options)), alone=not options["parent"]
        )
    notifier = Notifier(os.environ, os.getpid())
    node = Process(
        reactor,
        twistd=twistd_options(options),
        level=options["log-level"],
        log_format=options["log-format"],
        notifier=notifier,
        child=bool(options["parent"]),
    )
    reloading = Reloading(options)
    reloading.on_change("log-level", node.use_level)
    node.on_hangup(reloading.reload)
    if tls is not None:
        node.on_hangup(tls.reload)
    if inherited:
        Instructions(
            {
                SECRETS: lambda text: identity.secrets.replace(from_hexadecimal(text)),
                LOG_LEVEL: node.use_level,
            },
            reactor,
        ).setServiceParent(node)
    else:
        node.on_hangup(rotation(identity, options).reload)
    Descriptors(wiring.descriptors(1)).setServiceParent(node)

    told = [Progress("waits", "it starts")]
    heartbeat = Heartbeat(
        notifier, lambda: (told[0].state == "up", told[0].sentence(options["id"])), reactor, listens=True
    )
    heartbeat.setServiceParent(node)

    def tell(progress: Progress) -> None:
        told[0] = progress
        if options["status"]:
            report_progress(options["status"], progress)
        elif progress.why:
            _log.error("{sentence}", sentence=progress.sentence(options["id"]))
        if progress.state == "cannot start":
            node.end(CANNOT_START)

    remedy = "" if options["parent"] else SET_ASIDE if options["peers"] else RESTORE
    figures = ProcessFigures(reactor, f"node-{options['id']}", path)
    figures.setServiceParent(node)
    wiring.figures = figures.samples
    wiring.node(options["id"], path, options["interface"], tell=tell, remedy=remedy).setServiceParent(node)
    return node
