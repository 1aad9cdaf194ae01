"""
The targets of `make fuzz`, for seconds instead of hours: saved inputs, and what hypothesis makes of them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.answers import Defect, read_answers
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

_MOST_EDITS = 4


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_shows_no_defect(name: str) -> None:
    assert seeds(name)
    for seed in seeds(name):
        TARGETS[name](seed)


@st.composite
def _edited(draw: st.DrawFn, name: str) -> bytes:
    """
    A saved input, of which parts are left out, come twice, or are others.
    """
    data = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(0, _MOST_EDITS))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, len(data)))
        put = draw(st.binary(max_size=20) | st.sampled_from([data[start:end] * 2, b"", *seeds(name)[:20]]))
        data = data[:start] + put + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_of_it_shows_no_defect(name: str) -> None:
    @given(_edited(name) | st.binary())
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


_HEAD = b"HTTP/1.1 200 OK\r\nDate: now\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense",
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
        _HEAD + b"Content-Length: 3\r\n\r\n{}",
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n{}\r\n",
        _HEAD.replace(b"Cache-Control: no-store\r\n", b"") + b"Content-Length: 2\r\n\r\n{}",
        _HEAD.replace(b"json", b"octet-stream") + b"Content-Length: 2\r\n\r\n{}",
        _HEAD.replace(b"200 OK", b"404 Not Found") + b"Content-Length: 2\r\n\r\n{}",
        _HEAD.replace(b"200 OK", b"404 Not Found").replace(b"application/json", b"application/problem+json")
        + b'Content-Length: 25\r\n\r\n{"code":"x","status":404}',
        _HEAD + b"X: a\tb\r\n\r\n",
    ],
    ids=range(9),
)
def test_a_malformed_answer_is_a_defect(sent: bytes) -> None:
    with pytest.raises(Defect):
        list(read_answers(sent))
