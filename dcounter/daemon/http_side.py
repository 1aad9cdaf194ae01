"""
The HTTP side of a daemon: whom it lets in, and where it listens.

Importing this module installs a reactor, because it imports Klein: the reactor must be chosen before.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.application import strports
from twisted.internet.endpoints import wrapServerTLS

from dcounter.daemon.announcing import Announced, Listening
from dcounter.daemon.exposure import Exposure
from dcounter.daemon.http_endpoint import complete
from dcounter.daemon.options import Options
from dcounter.daemon.process import Process
from dcounter.daemon.reloading import Reloading
from dcounter.daemon.tls import tls_of_http
from dcounter.daemon.tokens import TokensFile
from dcounter.daemon.unix_sockets import cleared
from dcounter.figures import Samples
from dcounter.http.access import AccessLog
from dcounter.http.auth import OperatorToken
from dcounter.http.figures import HttpFigures
from dcounter.http.limits import HttpLimits
from dcounter.http.server import Server, make_api
from dcounter.store import Operator, Store


class HttpSide:
    """
    What the options say of HTTP. The files that they name are read before anything is changed.

    :ivar limits: all bounds.
    :raises ConfigurationError: a file cannot be used.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        self._options = options
        self._reactor = reactor
        self.limits = replace(
            HttpLimits(),
            max_body_bytes=options["max-body"],
            max_tenant_bytes=options["max-tenant"],
            idle_s=options["idle"],
        )
        exposure = self._exposure = Exposure(
            options["http"],
            protected=options["tokens-file"] is not None or options["tls-client-ca"] is not None,
            insecure=options["insecure"],
        )
        exposure.check()
        self._tokens: TokensFile | None = None
        if options["tokens-file"] is not None:
            self._tokens = TokensFile(options["tokens-file"], now=time.time_ns, seconds=reactor.seconds)
        self._certificates = tls_of_http(options)

    def warnings(self) -> Sequence[str]:
        """
        What an operator should know, one sentence each.
        """
        of_certificates = [] if self._certificates is None else self._certificates.warnings()
        return [*self._exposure.warnings(), *of_certificates]

    @property
    def connections(self) -> int:
        """
        How many connections there may be.
        """
        limits = self.limits
        return limits.max_connections + limits.reserved_connections + limits.max_watchers

    def serve(
        self,
        store: Store,
        operator: Operator,
        *,
        token: OperatorToken | None,
        measure: Callable[[], Awaitable[Sequence[Samples]]],
        daemon: Process,
        reloading: Reloading,
        tell: Sequence[Callable[[Listening], None]],
    ) -> Server:
        """
        Listen when the daemon starts.

        :param token: the operator's.
        :param measure: gives the figures of the store.
        :param reloading: changes options while the daemon runs.
        :param tell: what to call with the place where it listens.
        """
        options, reactor = self._options, self._reactor
        api = make_api(
            store,
            limits=self.limits,
            operator=operator,
            token=token,
            ack=options["ack"],
            consistency=options["consistency"],
            tokens=None if self._tokens is None else self._tokens.tokens,
            access=AccessLog(daemon.write_entry, on=options["access-log"]),
            figures=HttpFigures(time.monotonic),
            measure=measure,
        )
        server = Server(
            api, reactor=reactor, now=time.time_ns, names=options["host"], origins=options["cors-origin"]
        )
        service: Any = strports.service(complete(options["http"], self.connections), server, reactor=reactor)
        endpoint = cleared(service.endpoint, options["http"])
        if self._certificates is not None:
            endpoint = wrapServerTLS(self._certificates, endpoint, reactor)
            daemon.on_hangup(self._certificates.reload)
        service.endpoint = Announced(
            endpoint,
            options["http"],
            encrypted=self._certificates is not None,
            tell=tell,
            in_background=daemon.in_background,
            exposure=self._exposure,
            tokens=self._tokens is not None,
        )
        service.setServiceParent(daemon)
        if self._tokens is not None:
            daemon.on_hangup(self._tokens.reload)
        daemon.on_drain(api.drain.begin)
        reloading.on_change("access-log", api.access.use)
        reloading.on_change("host", server.shared.guard.use_names)
        reloading.on_change("cors-origin", server.shared.guard.use_origins)
        return server
