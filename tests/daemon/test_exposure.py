"""
Callers on other machines must prove who they are, or the operator must want it otherwise.
"""

from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory

from dcounter.daemon.announcing import Announced, CannotListen
from dcounter.daemon.exposure import Exposure
from dcounter.daemon.http_endpoint import reaches_beyond
from dcounter.errors import ConfigurationError

BEYOND = [
    "tcp:8085",
    "tcp:port=8085",
    "tcp:8085:interface=",
    "tcp:8085:interface=0.0.0.0",
    "tcp:8085:10.0.0.1",
    "tcp:8085:10.0.0.1:50",
    "tcp:backlog=5:port=8085",
    "tcp:interface=192.0.2.1:port=8085",
    "tcp:8085:interface=\\:\\:",
    "tcp6:8085",
    "tcp6:8085:50",
    "tcp6:8085:interface=2001\\:db8\\:\\:1",
    "tcp6:8085:50:\\:\\:",
    "tcp6:8085:interface=fe80\\:\\:1%eth0",
    "ssl:8443:privateKey=/k.pem",
    "ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD:0.0.0.0",
    "tls:/certs:8443",
    "tls:/certs:8443:50:\\:\\:",
    "haproxy:tcp:8085",
    "HAProxy:haproxy:tcp6:80:7",
]
WITHIN = [
    "tcp:8085:interface=127.0.0.1",
    "tcp:8085:127.0.0.2",
    "tcp:8085:interface=\\:\\:1",
    "tcp6:8085:interface=\\:\\:1",
    "tcp6:8085:50:\\:\\:1",
    "ssl:8443:/k.pem:/c.pem:TLSv1_2_METHOD:127.0.0.1",
    "ssl:8443:privateKey=/k.pem:interface=127.0.0.1",
    "tls:/certs:8443:50:\\:\\:1",
    "unix:/run/x",
    "unix:/run/tcp\\:8085",
    "haproxy:tcp:8085:interface=127.0.0.1",
    "haproxy:unix:/run/x",
]
UNKNOWN = ["tcp:8085:interface=localhost", "systemd:domain=INET:index=0", "fd:7", "stdio:", ""]


class TestDescriptions:
    @pytest.mark.parametrize("description", BEYOND)
    def test_that_others_reach_are_refused(self, description: str) -> None:
        assert reaches_beyond(description)
        with pytest.raises(ConfigurationError, match=r"other machines.*--tokens-file.*--insecure"):
            Exposure(description, protected=False, insecure=False).check()
        Exposure(description, protected=True, insecure=False).check()
        Exposure(description, protected=False, insecure=True).check()

    @pytest.mark.parametrize("description", [*WITHIN, *UNKNOWN])
    def test_that_are_or_may_be_of_this_machine_are_not(self, description: str) -> None:
        assert not reaches_beyond(description)
        Exposure(description, protected=False, insecure=False).check()


OUTSIDE = [
    IPv4Address("TCP", "0.0.0.0", 80),
    IPv4Address("TCP", "192.0.2.1", 80),
    IPv6Address("TCP", "::", 80),
    IPv6Address("TCP", "fe80::1%eth0", 80),
]
INSIDE = [
    IPv4Address("TCP", "127.0.0.1", 80),
    IPv6Address("TCP", "::1", 80),
    UNIXAddress("/run/x"),
    UNIXAddress(b"\0x"),
]


class TestAddresses:
    @pytest.mark.parametrize("address", OUTSIDE)
    def test_others_reach_them(self, address: object) -> None:
        exposure = Exposure("systemd:", protected=False, insecure=False)
        assert "--tls-client-ca" in str(exposure.objection(address))
        insecure = Exposure("systemd:", protected=False, insecure=True)
        assert insecure.warnings() == []
        assert insecure.objection(address) is None
        [warning] = insecure.warnings()
        assert warning.startswith("--insecure: HTTP can be reached from other machines")
        protected = Exposure("systemd:", protected=True, insecure=True)
        assert protected.objection(address) is None
        assert protected.warnings() == []

    @pytest.mark.parametrize("address", INSIDE)
    def test_only_this_machine_does(self, address: object) -> None:
        for insecure in (False, True):
            exposure = Exposure("systemd:", protected=False, insecure=insecure)
            assert exposure.objection(address) is None
            assert exposure.warnings() == []


class Port:
    """
    A port that listens until it is told to stop.
    """

    def __init__(self, address: Any) -> None:
        self._address = address
        self.stopped = False

    def getHost(self) -> Any:
        return self._address

    def stopListening(self) -> None:
        self.stopped = True


class Endpoint:
    def __init__(self, address: Any) -> None:
        self.port = Port(address)

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        return succeed(self.port)


@pytest.mark.parametrize(("in_background", "kind"), [(False, SystemExit), (True, CannotListen)])
def test_what_others_reach_after_all_ends_the_start(in_background: bool, kind: type[BaseException]) -> None:
    endpoint = Endpoint(OUTSIDE[0])
    ended: list[Any] = []
    announced = Announced(
        cast(Any, endpoint),
        "systemd:index=0",
        in_background=in_background,
        exposure=Exposure("systemd:index=0", protected=False, insecure=False),
    )
    announced.listen(Factory()).addErrback(ended.append)
    assert ended[0].check(kind)
    assert "dcounter does not start: HTTP can be reached" in str(ended[0].value)
    assert endpoint.port.stopped


def test_what_the_operator_wants_is_a_warning() -> None:
    endpoint = Endpoint(OUTSIDE[0])
    exposure = Exposure("tcp:80", protected=False, insecure=True)
    found: list[list[str]] = []
    Announced(
        cast(Any, endpoint),
        "tcp:80",
        tell=[lambda _: found.append([*exposure.warnings()])],
        exposure=exposure,
    ).listen(Factory())
    assert len(found[0]) == 1
    assert not endpoint.port.stopped
