import hmac
import json
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dcounter.errors import HandshakeRefused, MalformedMessage, Removed
from dcounter.protocol import codec
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.handshake import NEGOTIATES, Callee, Caller, Identity, Peer
from dcounter.protocol.messages import Challenge, Hello, Proof, Role
from dcounter.protocol.secrets import Secrets
from tests.support import strategies

IDENTITY = Identity("cluster", Secrets(b"secret"), range(3))
CALLER_NONCE = "a" * 32
CALLEE_NONCE = "b" * 32
RUN = 1_800_000_000_000_000_000


PORT = 8090


def _caller(
    identity: Identity = IDENTITY,
    *,
    role: Role = "node",
    node: int | None = 1,
    to: int = 0,
    port: int = PORT,
    abilities: Abilities = ABILITIES,
) -> Caller:
    return Caller(
        identity,
        role=role,
        node=node,
        to=to,
        port=port,
        nonce=CALLER_NONCE,
        instance="one process",
        abilities=abilities,
    )


def _callee(
    identity: Identity = IDENTITY,
    *,
    node: int = 0,
    run: int = RUN,
    removed: Collection[int] = (),
    abilities: Abilities = ABILITIES,
) -> Callee:
    return Callee(
        identity,
        node=node,
        run=run,
        nonce=CALLEE_NONCE,
        instance="another process",
        removed=removed,
        abilities=abilities,
    )


def _peer(role: Role, node: int | None, instance: str) -> Peer:
    """
    Another end of this very version.
    """
    return Peer(role, node, instance, ABILITIES.highest, frozenset(ABILITIES.features))


class TestSuccess:
    @pytest.mark.parametrize(
        ("role", "node"), [("node", 1), ("coordinator", None), ("probe", 0), ("probe", 2)]
    )
    def test_both_ends_know_who_is_there(self, role: Role, node: int | None) -> None:
        caller, callee = _caller(role=role, node=node), _callee()

        challenge = callee.greet(caller.hello, PORT)
        peer = callee.verify(caller.answer(challenge))

        assert peer == _peer(role, node, "one process" if role == "node" else "")
        assert caller.peer == _peer("node", 0, "another process")
        assert (challenge.node, challenge.run) == (0, RUN)
        assert challenge.nonce.endswith(CALLEE_NONCE)

    def test_a_node_may_have_no_open_run(self) -> None:
        caller, callee = _caller(), _callee(run=0)
        peer = callee.verify(caller.answer(callee.greet(caller.hello, PORT)))
        assert peer == _peer("node", 1, "one process")

    def test_the_secret_is_not_shown(self) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello, PORT)
        said = [caller.hello, challenge, caller.answer(challenge)]
        assert b"secret" not in msgspec.json.encode(said)

    def test_members_may_be_any_sequence(self) -> None:
        caller = _caller(Identity("cluster", Secrets(b"secret"), [0, 1, 2]))
        callee = _callee(Identity("cluster", Secrets(b"secret"), (0, 1, 2)))
        peer = callee.verify(caller.answer(callee.greet(caller.hello, PORT)))
        assert peer == _peer("node", 1, "one process")


def _code(label: str, hello: Hello, challenge: Challenge, *spoken: object) -> str:
    """
    A code as docs/protocol.md has it; release 0.1.0 knows nothing of what is spoken.
    """
    claims = [label, hello.protocol, IDENTITY.cluster, [0, 1, 2], hello.role, hello.node, hello.to]
    claims += [hello.nonce, hello.port, IDENTITY.boot, hello.instance]
    claims += [challenge.node, challenge.run, challenge.nonce, challenge.instance, *spoken]
    return hmac.digest(IDENTITY.secrets.used, json.dumps(claims).encode(), "sha256").hex()


def _hello(**changes: object) -> Hello:
    return msgspec.structs.replace(_caller().hello, **changes)


class TestGreet:
    @pytest.mark.parametrize(
        ("hello", "why"),
        [
            (_hello(cluster="other"), "another cluster"),
            (_hello(to=2), "this is node 0, not node 2"),
            (_hello(members=[0, 1]), r"members \[0, 1\] instead of \[0, 1, 2\]"),
            (_hello(members=[0, 2, 1]), r"members \[0, 2, 1\] instead of"),
            (_hello(node=None), "a node with node id None"),
            (_hello(role="probe", node=None), "a probe with node id None"),
            (_hello(role="coordinator"), "a coordinator with node id 1"),
            (_hello(node=3), "node 3 is not a member"),
            (_hello(port=8091), "port 8091 was called, and this is port 8090: something relays"),
            (_hello(boot="later"), "another start of the daemon; is a copy of its data directory in use"),
        ],
    )
    def test_refuses_who_does_not_belong(self, hello: Hello, why: str) -> None:
        callee = _callee()
        with pytest.raises(HandshakeRefused, match=why):
            callee.greet(hello, PORT)
        # And it stays refused: nothing was remembered of that hello.
        with pytest.raises(HandshakeRefused, match="a proof before the hello"):
            callee.verify(Proof("0" * 64))


class TestProofs:
    def test_a_caller_refuses_a_node_without_the_secret(self) -> None:
        caller = _caller()
        stranger = _callee(Identity("cluster", Secrets(b"guess"), range(3)))
        with pytest.raises(HandshakeRefused, match="the node does not have"):
            caller.answer(stranger.greet(caller.hello, PORT))

    def test_a_caller_refuses_another_node(self) -> None:
        caller = _caller(to=0)
        other = _callee(node=2)
        challenge = other.greet(_caller(to=2).hello, PORT)
        with pytest.raises(HandshakeRefused, match="node 2 answered for node 0"):
            caller.answer(challenge)

    def test_a_node_refuses_a_caller_without_the_secret(self) -> None:
        callee = _callee()
        stranger = _caller(Identity("cluster", Secrets(b"guess"), range(3)))
        challenge = callee.greet(stranger.hello, PORT)
        node = _callee(Identity("cluster", Secrets(b"guess"), range(3)))
        proof = stranger.answer(node.greet(stranger.hello, PORT))
        assert challenge.nonce.endswith(CALLEE_NONCE)
        with pytest.raises(HandshakeRefused, match="the caller does not have"):
            callee.verify(proof)

    def test_a_node_refuses_a_proof_before_the_hello(self) -> None:
        with pytest.raises(HandshakeRefused, match="a proof before the hello"):
            _callee().verify(Proof("0" * 64))

    def test_a_proof_cannot_be_sent_back_to_its_maker(self) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello, PORT)
        with pytest.raises(HandshakeRefused, match="the caller does not have"):
            callee.verify(Proof(challenge.proof))
        proof = caller.answer(challenge)
        with pytest.raises(HandshakeRefused, match="the node does not have"):
            caller.answer(msgspec.structs.replace(challenge, proof=proof.proof))

    def test_a_proof_of_another_conversation_is_worth_nothing(self) -> None:
        caller, callee = _caller(), _callee()
        proof = caller.answer(callee.greet(caller.hello, PORT))
        later = Callee(IDENTITY, node=0, run=RUN, nonce="c" * 32, instance="another process")
        later.greet(caller.hello, PORT)
        with pytest.raises(HandshakeRefused):
            later.verify(proof)

    @pytest.mark.parametrize("proof", ["", "0" * 64, "\u00e9", "\U0001f600" * 64])
    def test_any_text_is_a_wrong_proof(self, proof: str) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello, PORT)
        with pytest.raises(HandshakeRefused):
            callee.verify(Proof(proof))
        with pytest.raises(HandshakeRefused):
            caller.answer(msgspec.structs.replace(challenge, proof=proof))


nonces = st.text("0123456789abcdef", min_size=32, max_size=128)
some_abilities = st.builds(
    lambda lowest, more, features: Abilities(lowest, lowest + more, features),
    st.integers(1, 3),
    st.integers(0, 2),
    st.lists(st.text(min_size=1, max_size=5), max_size=2),
)


class TestEveryClaimIsProved:
    @given(
        st.one_of(
            st.builds(lambda value: {"run": value}, strategies.stamps),
            st.builds(lambda value: {"nonce": value}, st.text("0123456789abcdef", min_size=32, max_size=128)),
            st.builds(lambda value: {"node": value}, strategies.node_ids),
            st.builds(lambda value: {"instance": value}, st.text()),
            st.builds(lambda value: {"proof": value}, st.text()),
            st.builds(lambda value: {"abilities": value}, st.none() | some_abilities),
            st.builds(lambda abilities, nonce: {"abilities": abilities, "nonce": nonce}, st.none(), nonces),
        )
    )
    def test_a_changed_challenge_is_refused(self, changes: dict[str, object]) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello, PORT)
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
            st.builds(lambda value: {"port": value}, st.integers(1, 65_535)),
            st.builds(lambda value: {"boot": value}, st.text()),
            st.builds(lambda value: {"instance": value}, st.text()),
            st.builds(lambda value: {"abilities": value}, st.none() | some_abilities),
            st.builds(lambda abilities, nonce: {"abilities": abilities, "nonce": nonce}, st.none(), nonces),
        )
    )
    def test_a_hello_changed_on_its_way_is_refused(self, changes: dict[str, object]) -> None:
        caller, callee = _caller(), _callee()
        changed = msgspec.structs.replace(caller.hello, **changes)
        assume(changed != caller.hello)

        with pytest.raises(HandshakeRefused):
            caller.answer(callee.greet(changed, PORT))

        # Nor does the node take the caller's proof for the changed claims.
        honest = _callee()
        proof = caller.answer(honest.greet(caller.hello, PORT))
        with pytest.raises(HandshakeRefused):
            callee.verify(proof)

    def test_a_relay_to_another_port_is_found_whether_or_not_it_changes_the_hello(self) -> None:
        # The caller calls the node's old port, where somebody relays to the new one.
        caller, moved = _caller(port=8090), _callee()
        with pytest.raises(HandshakeRefused, match="port 8090 was called, and this is port 8095"):
            moved.greet(caller.hello, 8095)
        challenge = moved.greet(msgspec.structs.replace(caller.hello, port=8095), 8095)
        with pytest.raises(HandshakeRefused, match="or the handshake was changed on its way"):
            caller.answer(challenge)

    @pytest.mark.parametrize(
        ("mine", "theirs"),
        [
            (
                Identity("cluster", Secrets(b"secret"), range(3)),
                Identity("cluster", Secrets(theirs), range(3)),
            )
            for theirs in (b"secre", b"")
        ],
    )
    def test_another_secret_proves_nothing(self, mine: Identity, theirs: Identity) -> None:
        caller = _caller(theirs)
        with pytest.raises(HandshakeRefused):
            caller.answer(_callee(mine).greet(caller.hello, PORT))


class TestStarts:
    """
    Nodes of a daemon belong to one start of it.
    """

    def test_those_of_one_start_belong_together(self) -> None:
        identity = Identity("cluster", Secrets(b"secret"), range(3), "boot")
        caller, callee = _caller(identity), _callee(identity)
        assert callee.verify(caller.answer(callee.greet(caller.hello, PORT))).node == 1

    @pytest.mark.parametrize(("one", "other"), [("boot", "later"), ("boot", ""), ("", "boot")])
    def test_those_of_two_do_not_although_all_else_is_the_same(self, one: str, other: str) -> None:
        caller = _caller(Identity("cluster", Secrets(b"secret"), range(3), one))
        callee = _callee(Identity("cluster", Secrets(b"secret"), range(3), other))
        with pytest.raises(HandshakeRefused, match="another start of the daemon"):
            callee.greet(caller.hello, PORT)
        # Nor does the claim alone help.
        challenge = callee.greet(msgspec.structs.replace(caller.hello, boot=other), PORT)
        with pytest.raises(HandshakeRefused, match="was changed on its way"):
            caller.answer(challenge)


class TestRemoved:
    def test_a_removed_node_learns_it_from_a_member_that_has_proved_itself(self) -> None:
        caller, callee = _caller(), _callee(removed={1})
        proof = caller.answer(callee.greet(caller.hello, PORT))
        with pytest.raises(Removed, match="node 1 was removed from the cluster"):
            callee.verify(proof)

    def test_without_the_secret_nobody_is_told_who_was_removed(self) -> None:
        callee = _callee(removed={1})
        callee.greet(_caller().hello, PORT)
        with pytest.raises(HandshakeRefused, match="the caller does not have"):
            callee.verify(Proof("0" * 64))

    def test_others_come_in(self) -> None:
        caller, callee = _caller(node=2), _callee(removed={1})
        assert callee.verify(caller.answer(callee.greet(caller.hello, PORT))).node == 2


class TestNegotiation:
    @pytest.mark.parametrize(
        ("caller", "callee", "protocol", "features"),
        [
            (Abilities(2, 2), Abilities(2, 2), 2, set()),
            (Abilities(2, 4), Abilities(2, 3), 3, set()),
            (Abilities(2, 3), Abilities(3, 5), 3, set()),
            (Abilities(1, 9, ["a", "b"]), Abilities(2, 2, ["b", "c"]), 2, {"b"}),
            (Abilities(2, 2, ["a"]), Abilities(2, 2), 2, set()),
        ],
    )
    def test_the_highest_version_and_the_features_of_both(
        self, caller: Abilities, callee: Abilities, protocol: int, features: set[str]
    ) -> None:
        one, other = _caller(abilities=caller), _callee(abilities=callee)
        peer = other.verify(one.answer(other.greet(one.hello, PORT)))
        assert peer == Peer("node", 1, "one process", protocol, features)
        assert one.peer == Peer("node", 0, "another process", protocol, features)

    @pytest.mark.parametrize(
        ("caller", "callee", "why"),
        [
            (
                Abilities(2, 2),
                Abilities(3, 4),
                "no common protocol: the caller speaks 2, the node 3 to 4; update",
            ),
            (
                Abilities(3, 4),
                Abilities(1, 2),
                "no common protocol: the caller speaks 3 to 4, the node 1 to 2; up",
            ),
        ],
    )
    def test_without_a_common_version_the_refusal_names_both(
        self, caller: Abilities, callee: Abilities, why: str
    ) -> None:
        one, other = _caller(abilities=caller), _callee(abilities=callee)
        with pytest.raises(HandshakeRefused, match=why):
            other.greet(one.hello, PORT)
        # A node that let it in all the same is refused by the caller.
        nonce = NEGOTIATES + CALLEE_NONCE
        challenge = Challenge(0, RUN, nonce, "another process", "", callee)
        spoken = [each for end in (caller, callee) for each in (end.lowest, end.highest, end.features)]
        proof = _code("node", one.hello, challenge, *spoken)
        with pytest.raises(HandshakeRefused, match=why):
            one.answer(msgspec.structs.replace(challenge, proof=proof))

    def test_abilities_have_an_order(self) -> None:
        line = codec.encode(_caller().hello).replace(b'"lowest":2', b'"lowest":3')
        with pytest.raises(MalformedMessage, match="the lowest protocol is above the highest"):
            codec.decode_hello(line)


# Release 0.1.0, in short: it knows one version, says nothing of abilities, and ignores them.

OLD_HELLO = Hello(2, "cluster", "node", 1, 0, [0, 1, 2], "a" * 32, PORT, "", "one process")


def _old_answer(hello: Hello) -> Challenge:
    assert hello.protocol == 2
    challenge = Challenge(0, RUN, "b" * 32, "another process", "")
    return msgspec.structs.replace(challenge, proof=_code("node", hello, challenge))


class TestRelease010:
    def test_calls(self) -> None:
        callee = _callee(abilities=Abilities(2, 9, ["a"]))
        challenge = callee.greet(OLD_HELLO, PORT)
        assert challenge.proof == _code("node", OLD_HELLO, challenge)
        peer = callee.verify(Proof(_code("caller", OLD_HELLO, challenge)))
        assert peer == Peer("node", 1, "one process", 2, frozenset())

    def test_is_called(self) -> None:
        caller = _caller(abilities=Abilities(2, 9, ["a"]))
        challenge = _old_answer(caller.hello)
        assert caller.answer(challenge) == Proof(_code("caller", caller.hello, challenge))
        assert caller.peer == Peer("node", 0, "another process", 2, frozenset())

    def test_what_it_ignores_it_can_read(self) -> None:
        class OldHello(msgspec.Struct, tag="hello"):
            protocol: int
            nonce: Annotated[str, msgspec.Meta(min_length=32, max_length=128)]

        line = codec.encode(_caller().hello)
        assert msgspec.json.decode(line, type=OldHello).protocol == 2

    def test_is_refused_by_one_that_speaks_its_version_no_longer(self) -> None:
        with pytest.raises(HandshakeRefused, match="the caller speaks 2, the node 3 to 4"):
            _callee(abilities=Abilities(3, 4)).greet(OLD_HELLO, PORT)


class TestNobodyIsTakenForRelease010:
    """
    Something between two ends that negotiate removes what they say of it, in every way there is.
    """

    REMOVED = "was changed on its way: it does not say what the sender speaks"

    def _stripped(self, message: Hello | Challenge, *, mark: bool) -> dict[str, object]:
        nonce = message.nonce.removeprefix(NEGOTIATES) if mark else message.nonce
        return {"abilities": None, "nonce": nonce}

    def test_the_abilities_of_the_caller(self) -> None:
        caller, callee = _caller(), _callee()
        hello = msgspec.structs.replace(caller.hello, **self._stripped(caller.hello, mark=False))
        with pytest.raises(HandshakeRefused, match=self.REMOVED):
            callee.greet(hello, PORT)

    def test_the_abilities_of_the_node(self) -> None:
        caller, callee = _caller(), _callee()
        challenge = callee.greet(caller.hello, PORT)
        changed = msgspec.structs.replace(challenge, **self._stripped(challenge, mark=False))
        with pytest.raises(HandshakeRefused, match=self.REMOVED):
            caller.answer(changed)

    @pytest.mark.parametrize("both", [False, True])
    def test_with_their_marks(self, *, both: bool) -> None:
        caller, callee = _caller(), _callee()
        hello = msgspec.structs.replace(caller.hello, **self._stripped(caller.hello, mark=True))
        challenge = callee.greet(hello, PORT)
        if both:
            challenge = msgspec.structs.replace(challenge, **self._stripped(challenge, mark=True))
        with pytest.raises(HandshakeRefused, match="or the handshake was changed on its way"):
            caller.answer(challenge)

    def test_the_mark_is_no_accident_of_a_nonce(self) -> None:
        # Release 0.1.0 makes its nonces of hexadecimal digits.
        assert not set(NEGOTIATES) <= set("0123456789abcdef")


class TestTwoSecrets:
    """
    While the secret is being changed, processes that are a step apart know each other.
    """

    STEPS: ClassVar[list[tuple[bytes, ...]]] = [
        (b"old",),
        (b"old", b"new"),
        (b"new", b"old"),
        (b"new",),
    ]

    @staticmethod
    def _shake_hands(caller: Sequence[bytes], callee: Sequence[bytes]) -> None:
        ours = _caller(Identity("cluster", Secrets(*caller), range(3)))
        theirs = _callee(Identity("cluster", Secrets(*callee), range(3)))
        theirs.verify(ours.answer(theirs.greet(ours.hello, PORT)))

    @pytest.mark.parametrize("caller", range(4))
    @pytest.mark.parametrize("callee", range(4))
    def test_one_step_apart_is_close_enough(self, caller: int, callee: int) -> None:
        if abs(caller - callee) <= 1:
            self._shake_hands(self.STEPS[caller], self.STEPS[callee])
        else:
            with pytest.raises(HandshakeRefused, match="does not have this cluster's secret"):
                self._shake_hands(self.STEPS[caller], self.STEPS[callee])

    def test_a_change_counts_at_once_for_what_holds_the_identity(self) -> None:
        identity = Identity("cluster", Secrets(b"old"), range(3))
        caller, callee = _caller(identity), _callee(Identity("cluster", Secrets(b"new"), range(3)))
        identity.secrets.replace([b"new"])
        assert callee.verify(caller.answer(callee.greet(caller.hello, PORT))).node == 1

    def test_a_secret_that_goes_in_the_middle_of_a_handshake_proves_nothing(self) -> None:
        identity = Identity("cluster", Secrets(b"old", b"new"), range(3))
        caller, callee = _caller(Identity("cluster", Secrets(b"old"), range(3))), _callee(identity)
        proof = caller.answer(callee.greet(caller.hello, PORT))
        identity.secrets.replace([b"new"])
        with pytest.raises(HandshakeRefused, match="the caller does not have this cluster's secret"):
            callee.verify(proof)

    def test_no_text_shows_them(self) -> None:
        assert "old" not in repr(Identity("cluster", Secrets(b"old", b"new"), range(3)))
