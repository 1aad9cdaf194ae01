from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dcounter.errors import HandshakeRefused
from dcounter.handshake import Callee, Caller, Identity, Peer, Role
from dcounter.wire import PROTOCOL, Challenge, Hello, Proof
from tests import strategies

IDENTITY = Identity("cluster", b"secret", range(3))
CALLER_NONCE = "a" * 32
CALLEE_NONCE = "b" * 32
RUN = 1_800_000_000_000_000_000


def _caller(
    identity: Identity = IDENTITY, *, role: Role = "node", node: int | None = 1, to: int = 0
) -> Caller:
    return Caller(identity, role=role, node=node, to=to, nonce=CALLER_NONCE)


def _callee(identity: Identity = IDENTITY, *, node: int = 0, run: int = RUN) -> Callee:
    return Callee(identity, node=node, run=run, nonce=CALLEE_NONCE)


class TestSuccess:
    @pytest.mark.parametrize(
        ("role", "node"), [("node", 1), ("coordinator", None), ("probe", 0), ("probe", 2)]
    )
    def test_both_ends_know_who_is_there(self, role: Role, node: int | None) -> None:
        caller, callee = _caller(role=role, node=node), _callee()

        challenge = callee.greet(caller.hello)
        peer = callee.verify(caller.answer(challenge))

        assert peer == Peer(role, node)
        assert (challenge.node, challenge.run, challenge.nonce) == (0, RUN, CALLEE_NONCE)

    def test_a_node_may_have_no_open_run(self) -> None:
        caller, callee = _caller(), _callee(run=0)
        assert callee.verify(caller.answer(callee.greet(caller.hello))) == Peer("node", 1)

    def test_the_secret_is_not_shown(self) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello)
        said = [caller.hello, challenge, caller.answer(challenge)]
        assert b"secret" not in msgspec.json.encode(said)

    def test_members_may_be_any_sequence(self) -> None:
        caller = _caller(Identity("cluster", b"secret", [0, 1, 2]))
        callee = _callee(Identity("cluster", b"secret", (0, 1, 2)))
        assert callee.verify(caller.answer(callee.greet(caller.hello))) == Peer("node", 1)


def _hello(**changes: object) -> Hello:
    return msgspec.structs.replace(_caller().hello, **changes)


class TestGreet:
    @pytest.mark.parametrize(
        ("hello", "why"),
        [
            (_hello(protocol=PROTOCOL + 1), "protocol 2 instead of 1"),
            (_hello(cluster="other"), "another cluster"),
            (_hello(to=2), "this is node 0, not node 2"),
            (_hello(members=[0, 1]), r"members \[0, 1\] instead of \[0, 1, 2\]"),
            (_hello(members=[0, 2, 1]), r"members \[0, 2, 1\] instead of"),
            (_hello(node=None), "a node with node id None"),
            (_hello(role="probe", node=None), "a probe with node id None"),
            (_hello(role="coordinator"), "a coordinator with node id 1"),
            (_hello(node=3), "node 3 is no member"),
        ],
    )
    def test_refuses_who_does_not_belong(self, hello: Hello, why: str) -> None:
        callee = _callee()
        with pytest.raises(HandshakeRefused, match=why):
            callee.greet(hello)
        # And it stays refused: nothing was remembered of that hello.
        with pytest.raises(HandshakeRefused, match="a proof before the hello"):
            callee.verify(Proof("0" * 64))


class TestProofs:
    def test_a_caller_refuses_a_node_without_the_secret(self) -> None:
        caller = _caller()
        stranger = _callee(Identity("cluster", b"guess", range(3)))
        with pytest.raises(HandshakeRefused, match="the node does not have"):
            caller.answer(stranger.greet(caller.hello))

    def test_a_caller_refuses_another_node(self) -> None:
        caller = _caller(to=0)
        other = _callee(node=2)
        challenge = other.greet(_caller(to=2).hello)
        with pytest.raises(HandshakeRefused, match="node 2 answered for node 0"):
            caller.answer(challenge)

    def test_a_node_refuses_a_caller_without_the_secret(self) -> None:
        callee = _callee()
        stranger = _caller(Identity("cluster", b"guess", range(3)))
        challenge = callee.greet(stranger.hello)
        node = _callee(Identity("cluster", b"guess", range(3)))
        proof = stranger.answer(node.greet(stranger.hello))
        assert challenge.nonce == CALLEE_NONCE
        with pytest.raises(HandshakeRefused, match="the caller does not have"):
            callee.verify(proof)

    def test_a_node_refuses_a_proof_before_the_hello(self) -> None:
        with pytest.raises(HandshakeRefused, match="a proof before the hello"):
            _callee().verify(Proof("0" * 64))

    def test_a_proof_cannot_be_sent_back_to_its_maker(self) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello)
        with pytest.raises(HandshakeRefused, match="the caller does not have"):
            callee.verify(Proof(challenge.proof))
        proof = caller.answer(challenge)
        with pytest.raises(HandshakeRefused, match="the node does not have"):
            caller.answer(Challenge(0, RUN, CALLEE_NONCE, proof.proof))

    def test_a_proof_of_another_conversation_is_worth_nothing(self) -> None:
        caller, callee = _caller(), _callee()
        proof = caller.answer(callee.greet(caller.hello))
        later = Callee(IDENTITY, node=0, run=RUN, nonce="c" * 32)
        later.greet(caller.hello)
        with pytest.raises(HandshakeRefused):
            later.verify(proof)

    @pytest.mark.parametrize("proof", ["", "0" * 64, "\u00e9", "\U0001f600" * 64])
    def test_any_text_is_a_wrong_proof(self, proof: str) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello)
        with pytest.raises(HandshakeRefused):
            callee.verify(Proof(proof))
        with pytest.raises(HandshakeRefused):
            caller.answer(msgspec.structs.replace(challenge, proof=proof))


Change = Callable[[Challenge], Challenge]


class TestEveryClaimIsProved:
    @given(
        st.one_of(
            st.builds(lambda value: {"run": value}, strategies.stamps),
            st.builds(lambda value: {"nonce": value}, st.text("0123456789abcdef", min_size=32, max_size=128)),
            st.builds(lambda value: {"node": value}, strategies.node_ids),
            st.builds(lambda value: {"proof": value}, st.text()),
        )
    )
    def test_a_changed_challenge_is_refused(self, changes: dict[str, object]) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello)
        changed = msgspec.structs.replace(challenge, **changes)
        assume(changed != challenge)
        with pytest.raises(HandshakeRefused):
            caller.answer(changed)

    @given(
        st.one_of(
            st.builds(lambda value: {"protocol": value}, st.integers()),
            st.builds(lambda value: {"cluster": value}, st.text()),
            st.builds(
                lambda role, node: {"role": role, "node": node},
                st.sampled_from(["node", "coordinator", "probe"]),
                st.none() | strategies.node_ids,
            ),
            st.builds(lambda value: {"to": value}, strategies.node_ids),
            st.builds(lambda value: {"members": value}, st.lists(strategies.node_ids, max_size=4)),
            st.builds(lambda value: {"nonce": value}, st.text("0123456789abcdef", min_size=32, max_size=128)),
        )
    )
    def test_a_hello_changed_on_its_way_is_refused(self, changes: dict[str, object]) -> None:
        caller, callee = _caller(), _callee()
        changed = msgspec.structs.replace(caller.hello, **changes)
        assume(changed != caller.hello)

        with pytest.raises(HandshakeRefused):
            caller.answer(callee.greet(changed))

        # Nor does the node take the caller's proof for the changed claims.
        honest = _callee()
        proof = caller.answer(honest.greet(caller.hello))
        with pytest.raises(HandshakeRefused):
            callee.verify(proof)

    @pytest.mark.parametrize(
        ("mine", "theirs"),
        [
            (Identity("cluster", b"secret", range(3)), Identity("cluster", b"secre", range(3))),
            (Identity("cluster", b"secret", range(3)), Identity("cluster", b"", range(3))),
        ],
    )
    def test_another_secret_proves_nothing(self, mine: Identity, theirs: Identity) -> None:
        caller = _caller(theirs)
        with pytest.raises(HandshakeRefused):
            caller.answer(_callee(mine).greet(caller.hello))
