"""
THE list of options, of a daemon and of a node by itself.

The command line, the environment, the configuration file, `etc/dcounter.toml` and docs/configuration.md are
all made from it. A new option is one row here, and one place that uses its value.
"""

from typing import Final, get_args

from dcounter.daemon.log_lines import FORMATS, LEVELS
from dcounter.daemon.settings import (
    ADDRESS,
    FLAG,
    HOST_NAME,
    LISTEN_ADDRESS,
    PATH,
    PEER,
    TEXT,
    WEB_ORIGIN,
    Setting,
    one_of,
    seconds,
    share,
    whole,
)
from dcounter.limits import LONGEST_TENANT, MEBIBYTE, Limits
from dcounter.store import Ack, Consistency

MOST_NODES: Final = 16
"""
Every node holds everything and follows every other one, so heartbeats grow with the square of the number. On
2 busy cores 16 nodes became ready in half a minute; 32 nodes were not ready after a minute and a half.
"""

MOST_TENANTS: Final = 1_000
"""
The most tenants whose counts are shown as metrics: each is a series that Prometheus keeps.
"""

_PEER_TLS: Final = (
    Setting(
        "peer-tls-cert",
        PATH,
        "TLS between nodes and coordinators: this process's certificate (PEM).",
        example="/etc/dcounter/peer.pem",
        group="TLS between machines",
        reload="file",
        details="The three options work only together, and all processes of the cluster must have them: see"
        " [TLS between nodes](securing.md#tls-between-nodes). A daemon needs `--join` for it.",
    ),
    Setting(
        "peer-tls-key",
        PATH,
        "TLS between nodes and coordinators: its private key (PEM).",
        example="/etc/dcounter/peer-key.pem",
        group="TLS between machines",
        reload="file",
    ),
    Setting(
        "peer-tls-ca",
        PATH,
        "TLS between nodes and coordinators: the authority of all certificates (PEM).",
        example="/etc/dcounter/peer-ca.pem",
        group="TLS between machines",
        reload="file",
    ),
)

_LOG: Final = (
    Setting(
        "log-level",
        one_of(LEVELS),
        f"The lowest level that is logged: {', '.join(LEVELS)}.",
        "info",
        group="Log",
        reload="value",
        details="It applies to the daemon's nodes as well. Lines of Twisted itself below `warn` appear only"
        " with `debug`.",
    ),
    Setting(
        "log-format",
        one_of(FORMATS),
        f"How lines of the log are written: {', '.join(FORMATS)}.",
        "text",
        group="Log",
        details="See [How it is written](log.md#how-it-is-written).",
    ),
)

_ACCESS_LOG: Final = Setting(
    "access-log",
    FLAG,
    "Log each request.",
    False,
    group="Log",
    reload="value",
    details="About 40 % of the cost of a count: see [The access log](log.md#the-access-log).",
)

_SUSPICION: Final = Setting(
    "suspicion",
    seconds(0.1, 3600),
    "Silence after which a node counts as down.",
    1.0,
    group="Nodes",
    details="Heartbeats come five times as often, and at least every 0.2 s. Raise it if the log calls nodes"
    " silent on a machine that is merely busy. It is the same for all processes of a cluster.",
)

DAEMON: Final = (
    Setting(
        "http",
        TEXT,
        "Where HTTP listens: a Twisted endpoint description.",
        "tcp:8085:interface=127.0.0.1",
        group="HTTP",
        details="`tcp:8085` listens on every interface; then callers must show"
        " [tokens](securing.md#tokens) or [certificates](securing.md#https), or the daemon does not"
        " start. If the port is in use, the daemon does not start. Defaults: `backlog=864`, the number of"
        " connections that may wait to be accepted; `mode=660` for a Unix socket (`unix:PATH`), so that only"
        " its owner and group can connect. A socket with the name `http` that systemd passes is the default:"
        " see [Socket activation](../etc/README.md#socket-activation).",
    ),
    Setting(
        "host",
        HOST_NAME,
        "Another host name of the daemon, as a proxy passes it on in the header Host.",
        example="counts.example",
        group="HTTP",
        reload="value",
        many=True,
        details="See [Behind a proxy](proxies.md).",
    ),
    Setting(
        "cors-origin",
        WEB_ORIGIN,
        "A site whose web pages may call the API, such as https://app.example.",
        example="https://app.example",
        group="HTTP",
        reload="value",
        many=True,
        details="See [Web pages](http.md#web-pages).",
    ),
    Setting(
        "idle",
        seconds(1, 86_400),
        "Silence after which an HTTP connection is closed.",
        75.0,
        group="HTTP",
        details="It must be longer than a load balancer in front keeps its connections.",
    ),
    Setting(
        "max-body",
        whole(1024, unit="bytes"),
        "Largest body of a request.",
        16 * MEBIBYTE,
        group="HTTP",
    ),
    Setting(
        "max-tenant",
        whole(1, LONGEST_TENANT, unit="bytes"),
        "Longest tenant name, in UTF-8.",
        256,
        group="HTTP",
        details="At most 1 MiB, because a name must fit into one message. Longer names that are already"
        " stored stay.",
    ),
    Setting(
        "drain-delay",
        seconds(0, 3600),
        "Time between the order to stop and the stop, in which health checks fail.",
        0.0,
        group="HTTP",
        reload="value",
        details="Requests are answered meanwhile. Make it longer than a load balancer takes to notice: see"
        " [Stopping](operations.md#stopping).",
    ),
    Setting(
        "tokens-file",
        PATH,
        "A file with the tokens that callers must show, and their rights.",
        example="/etc/dcounter/tokens.toml",
        group="Access",
        reload="file",
        details="See [Tokens](securing.md#tokens).",
    ),
    Setting(
        "operator-token-file",
        PATH,
        "A file with the token for what only operators may do, such as to restart a node.",
        example="/etc/dcounter/operator-token",
        shown_default="`operator-token` in the data directory",
        group="Access",
        details="An operator must show this token to restart or remove nodes, to audit and to"
        " [compact](compaction.md): 16 to 256 visible ASCII characters. If the file does"
        " not exist, the daemon makes it at its start. With `--in-memory` and `--join` there is no token"
        " without this option.",
    ),
    Setting(
        "tls-cert",
        PATH,
        "HTTPS: a file with the certificate (PEM), and the chain after it.",
        example="/etc/dcounter/fullchain.pem",
        group="Access",
        reload="file",
        details="See [HTTPS](securing.md#https).",
    ),
    Setting(
        "tls-key",
        PATH,
        "HTTPS: a file with the private key of the certificate (PEM).",
        example="/etc/dcounter/privkey.pem",
        group="Access",
        reload="file",
    ),
    Setting(
        "tls-client-ca",
        PATH,
        "HTTPS: callers must have a certificate of an authority in this file.",
        example="/etc/dcounter/callers-ca.pem",
        group="Access",
        reload="file",
    ),
    Setting(
        "insecure",
        FLAG,
        "Let every caller on other machines store and count, without tokens or client certificates.",
        False,
        group="Access",
        details="Any program that reaches the port can then store, read and delete everything. The log and"
        " `warnings` in `GET /cluster` say so. For a network of your own, or a container whose port is"
        " published to this machine only.",
    ),
    Setting(
        "nodes",
        whole(1, MOST_NODES),
        "How many nodes store and count.",
        4,
        group="Nodes",
        details="See [limits.md](limits.md#bounds-outside-of-the-table) for more than 4. They start in"
        " turns, two for each CPU at a time. The number must be that of the data directory.",
    ),
    Setting(
        "node-port",
        whole(1, 65_535),
        "First port for nodes, on 127.0.0.1; a port in use is skipped.",
        8090,
        group="Nodes",
        details="Node 0 tries this one, node 1 the next, and so on. A port in use delays the start by at most"
        " two seconds. 100 ports are tried.",
    ),
    Setting(
        "data-dir",
        PATH,
        "The directory of the nodes' journals.",
        "./dcounter-data",
        group="Nodes",
        details="It is made if it does not exist.",
    ),
    Setting(
        "in-memory",
        FLAG,
        "Keep nothing on disk: all items are lost when the daemon stops.",
        False,
        group="Nodes",
        details="A node that dies comes back empty. Every start makes a new secret, so positions do not"
        " outlive the daemon.",
    ),
    Setting(
        "inline",
        FLAG,
        "Run the nodes in this process instead of each in its own.",
        False,
        group="Nodes",
        details="They still have journals, but share one CPU core, and die together.",
    ),
    _SUSPICION,
    Setting(
        "join",
        ADDRESS,
        "Use this node, and start none. Give it for each node, in the order of their ids.",
        example="tcp:10.0.0.10:8090",
        group="Nodes on other machines",
        many=True,
        details="Needs `--secret-file`. `--nodes`, `--node-port`, `--data-dir`, `--in-memory`, `--inline` and"
        " `--rebuild` would have no effect, so they are refused. See [Nodes on several"
        " machines](several-machines.md).",
    ),
    Setting(
        "secret-file",
        PATH,
        "With --join: a file with the secret of the cluster.",
        example="/etc/dcounter/secret",
        group="Nodes on other machines",
        reload="file",
        details="At least 16 bytes; blanks around it do not count. It can be"
        " [changed](securing.md#changing-the-secret).",
    ),
    *_PEER_TLS,
    Setting(
        "ack",
        one_of(get_args(Ack)),
        f"Which nodes must have the items on disk before the answer: {', '.join(get_args(Ack))}.",
        "node",
        group="Promises",
        details="A request may say otherwise: see [http.md](http.md).",
    ),
    Setting(
        "consistency",
        one_of(get_args(Consistency)),
        f"What a count may answer by default: {', '.join(get_args(Consistency))}.",
        "exact",
        group="Promises",
        details="A request may say otherwise: see [http.md](http.md).",
    ),
    Setting(
        "metrics-tenants",
        TEXT,
        "A tenant whose count GET /metrics shows; NAME* stands for all tenants whose names begin with NAME.",
        example="shop/*",
        group="Upkeep",
        reload="value",
        many=True,
        details=f"At most {MOST_TENANTS:,} tenants are shown: see [Tenants](metrics.md#tenants).",
    ),
    Setting(
        "audit-every",
        seconds(10, 31_536_000, or_never=True),
        "The time between two audits, which compare all nodes. 0: only on request.",
        0.0,
        group="Upkeep",
        reload="value",
        details="See [Auditing](auditing.md).",
    ),
    Setting(
        "compact-share",
        share(),
        "Forget old deletions when they are more than this share of all IDs. 0: only on request.",
        0.2,
        group="Upkeep",
        reload="value",
        details="See [Forgetting deletions](compaction.md).",
    ),
    Setting(
        "compact-age",
        seconds(60, 3_153_600_000),
        "Forget only deletions that are older than this; updates that old are then refused.",
        Limits().compact_age_s,
        group="Upkeep",
    ),
    *_LOG,
    _ACCESS_LOG,
    Setting(
        "rebuild",
        whole(0),
        "Rebuild this node from the other ones, if they have all of its data.",
        group="Repair",
        many=True,
        once=True,
        details="See [Rebuilding a node](replacing-a-node.md#rebuilding-a-node).",
    ),
    Setting(
        "accept-data-loss",
        FLAG,
        "With --rebuild: rebuild although data is lost. A start without this option names that data.",
        False,
        group="Repair",
        once=True,
    ),
)
"""
Those of `twistd dcounter`.
"""

NODE: Final = (
    Setting(
        "id",
        whole(0),
        "The id of this node; the nodes of a cluster are 0, 1, 2, ...",
        0,
        group="Node",
    ),
    Setting(
        "listen",
        LISTEN_ADDRESS,
        "First port of this node: tcp:PORT or tcp:PORT:interface=ADDRESS.",
        ("", 8090),
        example="tcp:8090",
        shown_default="`tcp:8090`",
        group="Node",
        details="`tcp:PORT` listens on every interface, `ADDRESS` is one of IPv4. If the port is in use, the"
        " node takes the next free one of 100.",
    ),
    Setting(
        "peer",
        PEER,
        "Another node, as ID=tcp:HOST:PORT; once for each.",
        example="1=tcp:10.0.0.11:8090",
        group="Node",
        many=True,
        details="With the first port of its own `--listen`.",
    ),
    Setting(
        "secret-file",
        PATH,
        "A file with the secret of the cluster.",
        example="/etc/dcounter/secret",
        group="Node",
        reload="file",
        details="Required. At least 16 bytes; blanks around it do not count. It can be"
        " [changed](securing.md#changing-the-secret).",
    ),
    Setting(
        "data-dir",
        PATH,
        "The directory of this node's journal.",
        "./dcounter-data",
        group="Node",
        details="The directory itself, without `node-N` below it.",
    ),
    Setting(
        "in-memory",
        FLAG,
        "Keep nothing on disk: all items are lost when the node stops.",
        False,
        group="Node",
        details="The node comes back empty.",
    ),
    _SUSPICION,
    *_PEER_TLS,
    *_LOG,
    Setting(
        "cluster",
        TEXT,
        "The id of the cluster.",
        shown_default="derived from the secret, or from the file with it",
        group="For a daemon that starts this node",
        once=True,
        details="Do not set it: coordinators with `--join` have no such option.",
    ),
    Setting(
        "parent",
        whole(1),
        "The process with which this one ends.",
        group="For a daemon that starts this node",
        once=True,
    ),
    Setting(
        "status",
        whole(3),
        "The file descriptor for reports about the start.",
        group="For a daemon that starts this node",
        once=True,
    ),
)
"""
Those of `twistd dcounter node`.
"""
