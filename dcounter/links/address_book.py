"""
Where the nodes of a cluster are, and the search for a node that has moved to another port.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory

from dcounter.limits import Limits
from dcounter.links.call import Call, SearchLog
from dcounter.links.connection import NO_ANSWER, Complaints
from dcounter.protocol import messages
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.handshake import Caller, Identity
from dcounter.protocol.messages import Role

_PROBES = 16
"""
Ports that a search probes at once; a few silent strangers among them do not matter.
"""

_LATE = messages.Farewell("")
"""
This very object means: no answer came in time, but the node may be there.
"""

Found = Literal["it", "another", "nothing in time"]
"""
What a probe found on a port; `another` also if nothing listens there.
"""

Connect = Callable[[str, int], IStreamClientEndpoint]
"""
Makes the endpoint for a machine and a port.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a node is.

    :ivar host: the machine.
    :ivar port: the port on which the node probably listens.
    :ivar ports: the ports on which it may listen.
    """

    host: str
    port: int
    ports: range

    @classmethod
    def from_port(cls, host: str, port: int, ports: int) -> "Address":
        """
        The address of a node that tries this many ports, beginning with `port`.
        """
        return cls(host, port, range(port, min(port + ports, 65_536)))

    def ports_from(self, port: int) -> Sequence[int]:
        """
        The ports of the range, beginning with `port`; lower ones come last.
        """
        return sorted(self.ports, key=lambda each: (each < port, each))


class _Probe(Call):
    """
    A handshake and nothing else, to see whether a node answers on a port.

    :ivar found: `None` if it does, else the reason.
    """

    def __init__(self, address_book: "AddressBook", caller: Caller) -> None:
        super().__init__(caller, address_book.limits, address_book.clock, address_book.complaints)
        self.found: Deferred[messages.Farewell | None] = Deferred(self._abandon)
        self._wanted = True

    def welcomed(self) -> None:
        super().welcomed()
        self._answer(None)
        self.close("the probe is over")

    def connection_ended(self, reason: str) -> None:
        self._answer(_LATE if reason == NO_ANSWER else self.refusal)

    def _answer(self, found: messages.Farewell | None) -> None:
        if self._wanted:
            self._wanted = False
            self.found.callback(found)

    def _abandon(self, found: "Deferred[messages.Farewell | None]") -> None:
        self._wanted = False
        self.close("the probe was cancelled")


class AddressBook:
    """
    What a process needs to reach the nodes of its cluster and to be recognised by them.

    :param role: what this process is.
    :param node: its node id; `None` for a coordinator.
    :param nonce: gives a new random text, at least 32 characters.
    :param addresses: node id -> where that node is.
    :param instance: random text of this process, if it is a node.
    :param abilities: what this process speaks.
    :param complaints: logs refused connections, for all of this process.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        role: Role,
        node: int | None,
        addresses: Mapping[int, Address],
        connect: Connect,
        nonce: Callable[[], str],
        limits: Limits,
        clock: IReactorTime,
        instance: str = "",
        abilities: Abilities = ABILITIES,
        complaints: Complaints | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.instance = instance
        self.abilities = abilities
        self.complaints = complaints or Complaints(clock.seconds)
        self.addresses = addresses
        self._identity = identity
        self._role = role
        self._node = node
        self._connect = connect
        self._nonce = nonce

    def endpoint(self, node: int, port: int) -> IStreamClientEndpoint:
        """
        The endpoint of a port on a node's machine.
        """
        return self._connect(self.addresses[node].host, port)

    def caller(self, to: int, port: int, *, probe: bool = False) -> Caller:
        """
        Our side of a handshake with a node.

        :param port: the port that is called.
        """
        role = "probe" if probe and self._node is not None else self._role
        return Caller(
            self._identity,
            role=role,
            node=self._node,
            to=to,
            port=port,
            nonce=self._nonce(),
            instance=self.instance,
            abilities=self.abilities,
        )

    async def locate(self, node: int, port: int, answers: SearchLog) -> int | None:
        """
        Search the range for the port on which a node listens, beginning with `port`.

        Several ports are probed at once, so that silent strangers on some of them do not delay the search.

        :param answers: collects what the other ports answered.
        :returns: the port; `None` if the node listens on none.
        """
        ports = iter(self.addresses[node].ports_from(port))
        found: Deferred[int | None] = Deferred()

        async def look() -> None:
            for each in ports:
                said = await self._probe(node, each)
                if said is not None:
                    answers.heard(each, said)
                elif not found.called:
                    found.callback(each)
                if found.called:
                    return

        looking = [Deferred.fromCoroutine(look()) for _ in range(_PROBES)]
        search = gatherResults(looking, consumeErrors=True)
        search.addCallbacks(
            lambda _: None if found.called else found.callback(None),
            lambda why: None if found.called else found.errback(why.value.subFailure),
        )
        # No `finally`: the garbage collector would run it, too, once nothing waits for this any more.
        try:
            port_found = await found
        except Exception:
            search.cancel()
            raise
        search.cancel()
        return port_found

    async def probe(self, node: int, port: int) -> Found:
        """
        Find out what is on a port on which a node listened.
        """
        said = await self._probe(node, port)
        if said is None:
            return "it"
        return "nothing in time" if said is _LATE else "another"

    async def _probe(self, node: int, port: int) -> messages.Farewell | None:
        """
        Find out whether a node listens on a port: `None` if it does, else what was said there.
        """
        probe = _Probe(self, self.caller(node, port, probe=True))
        factory = Factory.forProtocol(lambda: probe)
        factory.noisy = False
        try:
            await self.endpoint(node, port).connect(factory)
        except TimeoutError:
            return _LATE
        except (ConnectError, DNSLookupError):
            return messages.Farewell("")
        return await probe.found
