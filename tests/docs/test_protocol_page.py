"""
The page that describes the protocol, and the code, say the same.
"""

import hmac
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from dcounter.figures import Family, Histogram, Samples
from dcounter.node.auditing import IDLE_S
from dcounter.protocol import codec, messages, questions
from dcounter.protocol.abilities import ABILITIES, Abilities
from dcounter.protocol.batch import Batch, decode_batch, encode_batch
from dcounter.protocol.compaction import Compacted
from dcounter.protocol.handshake import NEGOTIATES, Callee, Caller, Identity
from dcounter.protocol.position import LostRun, NodePosition, Opening, Position
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from dcounter.protocol.secrets import Secrets
from tests.protocol.drawn import MESSAGES, decode_line

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


QUESTIONS: set[type[Any]] = {*questions.ANSWERS.keys(), *questions.ANSWERS.values(), questions.Declined}
VALUES: tuple[type[Any], ...] = (
    Batch,
    NodePosition,
    Position,
    Opening,
    LostRun,
    Abilities,
    ReceiptWanted,
    ReceiptGiven,
    questions.WrongCount,
    Compacted,
    Family,
    Samples,
    Histogram,
    *sorted(QUESTIONS, key=lambda kind: kind.__name__),
)


SECTIONS: dict[str, str] = dict(
    re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)


def _examples(kind: type[Any]) -> list[bytes]:
    blocks = re.findall(r"^```json\n(.*?)^```$", SECTIONS[kind.__name__], re.MULTILINE | re.DOTALL)
    return [block.removesuffix("\n").encode() for block in blocks]


def _all_examples() -> Iterator[Any]:
    for kind in (*VALUES, *MESSAGES):
        for number, line in enumerate(_examples(kind) if kind.__name__ in SECTIONS else []):
            yield pytest.param(kind, line, id=f"{kind.__name__}-{number}")


class TestPage:
    def test_every_message_has_a_section_and_nothing_else_has(self) -> None:
        assert set(SECTIONS) == {kind.__name__ for kind in (*VALUES, *MESSAGES)}

    @pytest.mark.parametrize("kind", [*VALUES, *MESSAGES], ids=lambda kind: kind.__name__)
    def test_every_section_has_an_example_and_all_fields(self, kind: type[Any]) -> None:
        assert _examples(kind)
        rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| .+ \| .*\|$", SECTIONS[kind.__name__], re.MULTILINE)
        assert rows == [
            (field.encode_name, "yes" if field.required else "no") for field in msgspec.structs.fields(kind)
        ]

    @pytest.mark.parametrize(("kind", "line"), list(_all_examples()))
    def test_examples_are_what_they_are_said_to_be(self, kind: type[Any], line: bytes) -> None:
        if kind in MESSAGES:
            message = decode_line(kind, line)
            assert type(message) is kind
            # Just as we write it.
            assert codec.encode(message) == line
            if isinstance(message, messages.Store | messages.Record):
                batch = decode_batch(message.batch)
                assert encode_batch(batch) == bytes(message.batch)
                if isinstance(message, messages.Record):
                    assert message.stamp == batch.largest_stamp()
        else:
            value = msgspec.json.decode(line, type=kind)
            assert msgspec.json.encode(value) == line

    def test_what_a_coordinator_sends_and_gets_is_listed(self) -> None:
        form = r"^- A coordinator sends ([^.]+), and gets ([^.]+)\."
        said = re.search(form, PAGE.read_text("utf-8"), re.MULTILINE)
        assert said is not None
        both = (messages.FromCoordinator, messages.ToCoordinator)
        for names, kinds in zip(said.groups(), both, strict=True):
            tags = {kind.__struct_config__.tag for kind in get_args(kinds)}
            assert set(re.findall(r"`(\w+)`", names)) == tags

    def test_an_audit_is_closed_when_it_says(self) -> None:
        assert f"and after {IDLE_S:.0f} s without a question." in PAGE.read_text("utf-8")

    def test_the_handshake_of_the_examples_is_a_real_one(self) -> None:
        lines = [_examples(kind)[0] for kind in (messages.Hello, messages.Challenge, messages.Proof)]
        hello, challenge, proof = map(codec.decode, lines)
        assert isinstance(hello, messages.Hello)
        assert isinstance(challenge, messages.Challenge)
        assert isinstance(proof, messages.Proof)
        secret = b"a secret of this cluster"
        text = PAGE.read_text("utf-8")
        assert f"{len(secret)} bytes `{secret.decode()}`" in text

        # Of some version: a new feature changes no example.
        assert hello.abilities is not None
        assert challenge.abilities is not None
        identity = Identity(hello.cluster, Secrets(secret), hello.members, hello.boot)
        caller = Caller(
            identity,
            role=hello.role,
            node=hello.node,
            to=hello.to,
            port=hello.port,
            nonce=hello.nonce.removeprefix(NEGOTIATES),
            abilities=hello.abilities,
        )
        callee = Callee(
            identity,
            node=challenge.node,
            run=challenge.run,
            nonce=challenge.nonce.removeprefix(NEGOTIATES),
            instance=challenge.instance,
            abilities=challenge.abilities,
        )
        assert caller.hello == hello
        assert callee.greet(hello, hello.port) == challenge
        assert caller.answer(challenge) == proof
        callee.verify(proof)

        # And as a client in another language would make it, from the page alone.
        [claims] = re.findall(r'^```\n(\["node", .*\])\n```$', text, re.MULTILINE)
        assert hmac.digest(secret, claims.encode(), "sha256").hex() == challenge.proof
        claims = claims.replace("node", "caller")
        assert hmac.digest(secret, claims.encode(), "sha256").hex() == proof.proof

    def test_its_limits_are_those_of_the_code(self) -> None:
        from dcounter.limits import Limits
        from dcounter.links.connection import HANDSHAKE_LINE

        text = PAGE.read_text("utf-8")
        limits = Limits()
        assert f"begins with `{NEGOTIATES}`" in text
        versions = re.findall(r"^\| (\d+) \| \d+\.\d+\.\d+ \| .*\|$", text, re.MULTILINE)
        assert [int(each) for each in versions] == list(range(ABILITIES.lowest, ABILITIES.highest + 1))
        features = re.findall(r"^\| feature \|.*\n\|---\|---\|\n((?:\|.*\n)*)", text, re.MULTILINE)
        assert re.findall(r"^\| `(\w+)` \|", features[0], re.MULTILINE) == ABILITIES.features
        # Where its lines break does not matter.
        text = " ".join(text.split())
        assert f"{limits.line_bytes // 2**20} MiB ({limits.line_bytes:,} bytes" in text
        assert f"{HANDSHAKE_LINE // 1024} KiB ({HANDSHAKE_LINE:,} bytes)" in text
        assert f"{limits.handshake_s:g} s after the connection" in text
        assert f"heartbeat ({limits.heartbeat_s * 1000:g} ms)" in text
        assert f"a coordinator that was silent for {limits.idle_s:g} s" in text
        assert f"that was silent for {limits.suspicion_s:g} s" in text
