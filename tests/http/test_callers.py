"""
Whose requests are answered: not those of web pages elsewhere.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

from dcounter.http.callers import Guard, is_loopback, is_this_machine
from dcounter.http.problems import ForeignOrigin, UnknownHost, UnsupportedEncoding

GUARD = Guard(["Counter.Example.org", "[2001:db8::1]"])


def objection(inside: bool = True, secure: bool = False, body: bool = True, **headers: str) -> str | None:
    """
    What the guard answers; a header that is sent twice has a line for each.
    """
    found = {
        name.replace("_", "-").lower().encode(): [
            each.strip().encode("latin-1") for each in value.split("\n")
        ]
        for name, value in headers.items()
    }
    refusal = GUARD.objection(found, inside=inside, secure=secure, body=body)
    if refusal is None:
        return None
    assert isinstance(refusal, UnknownHost | ForeignOrigin | UnsupportedEncoding)
    assert refusal.outcome == "not_applied"
    return refusal.code


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        (IPv4Address("TCP", "127.0.0.1", 1), True),
        (IPv4Address("TCP", "127.3.2.1", 1), True),
        (IPv4Address("TCP", "128.0.0.1", 1), False),
        (IPv6Address("TCP", "::1", 1), True),
        (IPv6Address("TCP", "::ffff:127.0.0.1", 1), True),
        (IPv6Address("TCP", "::ffff:7f00:2", 1), True),
        (IPv6Address("TCP", "::ffff:203.0.113.7", 1), False),
        (IPv6Address("TCP", "::127.0.0.1", 1), False),
        (IPv6Address("TCP", "fe80::1%eth0", 1), False),
        (IPv4Address("TCP", "nonsense of a proxy", 1), False),
        (UNIXAddress("/run/x"), False),
        (HostnameAddress(b"localhost", 1), False),
        (None, False),
    ],
    ids=str,
)
def test_addresses_by_which_a_machine_reaches_itself(address: object, loopback: bool) -> None:
    assert is_loopback(address) is loopback
    assert is_this_machine(address) is (loopback or isinstance(address, UNIXAddress))


OURS = [
    "localhost",
    "localhost:8085",
    "LocalHost.",
    "a.b.localhost:1",
    "127.0.0.1",
    "127.0.0.1:8085",
    "[::ffff:127.0.0.1]:8085",
    "127.99.0.3:80",
    "[::1]",
    "[::1]:8085",
    "[0:0:0:0:0:0:0:1]:1",
    "localhost:",
    "counter.example.org",
    "COUNTER.example.org.:443",
    "[2001:db8::1]:1",
]
NOT_OURS = [
    "evil.example",
    "evil.example:8085",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example",
    "0.0.0.0",
    "10.0.0.1:8085",
    "[::2]",
    "::1",
    "[::1",
    "[localhost]",
    "localhost:80:80",
    "user@localhost",
    "localhost evil",
    "127.1",
    "\xff\xfe",
    "<script>",
    ":8085",
    "x" * 300 + ".localhost",
]


@pytest.mark.parametrize("host", OURS)
def test_names_of_ours(host: str) -> None:
    for _ in range(2):
        assert objection(Host=host) is None
        assert objection(Host=host, Origin=f"http://{host}") is None


@pytest.mark.parametrize("host", NOT_OURS)
def test_other_names_are_refused_where_only_this_machine_can_call(host: str) -> None:
    for _ in range(2):
        assert objection(Host=host) == "unknown_host"
        # Even if the page has the same name: that is what rebinding looks like.
        assert objection(Host=host, Origin=f"http://{host}") == "unknown_host"
        assert objection(Host=f"localhost\n{host}") == "unknown_host"
        # Elsewhere we do not know what we are called.
        assert objection(Host=host, inside=False) is None


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=400))
def test_any_other_text_is_no_name_of_ours(host: str) -> None:
    name = host.strip(" \t").rpartition(":")[0] or host.strip(" \t")
    answer = objection(Host=host)
    assert answer in {None, "unknown_host"}
    if answer is None and host.strip(" \t"):
        assert host.strip(" \t").lower() in OURS or name.lower().rstrip(".").endswith("localhost")


def test_who_names_no_host_is_no_browser() -> None:
    assert objection() is None
    assert objection(Host="") is None


def test_the_names_that_are_remembered_are_bounded() -> None:
    guard = Guard()
    for number in range(2_000):
        headers = {b"host": [b"%d.localhost" % number]}
        assert guard.objection(headers, inside=True, secure=False, body=False) is None
    assert guard._is_ours.cache_info().currsize <= 256  # noqa: SLF001


@pytest.mark.parametrize(
    ("host", "origin", "secure", "expected"),
    [
        ("localhost:8085", "https://evil.example", False, "foreign_origin"),
        ("localhost:8085", "null", False, "foreign_origin"),
        ("localhost:8085", "", False, "foreign_origin"),
        ("localhost:8085", "localhost:8085", False, "foreign_origin"),
        ("localhost:8085", "file://", False, "foreign_origin"),
        ("localhost:8085", "http://localhost:3000", False, "foreign_origin"),
        ("localhost:8085", "http://127.0.0.1:8085", False, "foreign_origin"),
        ("localhost:8085", "http://localhost:8085.evil.example", False, "foreign_origin"),
        ("localhost:8085", "http://localhost:8085\nhttp://localhost:8085", False, "foreign_origin"),
        ("localhost:8085", "http://localhost:8085, https://evil.example", False, "foreign_origin"),
        ("", "http://", False, "foreign_origin"),
        ("localhost:8085", "http://localhost:8085", False, None),
        ("localhost:8085", "HTTP://LocalHost:8085", False, None),
        ("localhost:80", "http://localhost", False, None),
        ("localhost", "http://localhost", False, None),
        # A proxy took the encryption off.
        ("localhost", "https://localhost", False, None),
        ("localhost:443", "https://localhost", True, None),
        ("localhost", "http://localhost", True, "foreign_origin"),
    ],
)
def test_pages_of_other_origins_are_refused(
    host: str, origin: str, secure: bool, expected: str | None
) -> None:
    for inside in (True, False):
        assert objection(Host=host, Origin=origin, secure=secure, inside=inside) == expected
    if expected:
        assert objection(Origin=origin, secure=secure) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("gzip", "unsupported_encoding"),
        ("br", "unsupported_encoding"),
        ("GZIP", "unsupported_encoding"),
        ("identity, gzip", "unsupported_encoding"),
        ("identity\ndeflate", "unsupported_encoding"),
        ("nonsense", "unsupported_encoding"),
        ("identity", None),
        (" Identity , identity", None),
        ("", None),
    ],
)
def test_bodies_that_are_encoded_are_refused(encoding: str, expected: str | None) -> None:
    assert objection(Content_Encoding=encoding) == expected
    assert objection(Content_Encoding=encoding, body=False) is None


def test_the_refusals_name_what_they_refuse() -> None:
    for headers, name in [
        ({b"host": [b"evil.example"]}, "'evil.example'"),
        ({b"origin": [b"https://evil.example"]}, "'https://evil.example'"),
        ({b"content-encoding": [b"gzip"]}, "'gzip'"),
        ({b"host": [b"x" * 10_000]}, "x" * 100 + "'"),
    ]:
        assert name in str(GUARD.objection(headers, inside=True, secure=False, body=True))
