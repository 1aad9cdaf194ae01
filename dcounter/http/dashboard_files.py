"""
The files of the dashboard, as answers: read once, then kept in memory.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from dcounter.http.problems import Answer

PAGE: Final = "index.html"
"""
The file that is the page; it names the others.
"""

_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
    "txt": b"text/plain; charset=utf-8",
}
_POLICY: Final = (
    b"default-src 'none'",
    b"script-src 'self'",
    b"style-src 'self'",
    b"img-src 'self'",
    b"connect-src 'self'",
    b"base-uri 'none'",
    b"form-action 'none'",
    b"frame-ancestors 'none'",
    b"require-trusted-types-for 'script'",
    b"trusted-types 'none'",
)
"""
Nothing of another origin, no script and no style inside the page, and no text that becomes markup or code.
"""

_SECURITY: Final = (
    (b"Content-Security-Policy", b"; ".join(_POLICY)),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)
_TAG: Final = re.compile(rb'(?:W/)?("[\x21\x23-\x7e]*")')


@cache
def dashboard_files() -> Mapping[str, Answer]:
    """
    The answer with each file, by its name.
    """
    found = {}
    for file in files("dcounter.http").joinpath("dashboard").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            tag = b'"%s"' % hashlib.sha256(body).hexdigest()[:20].encode()
            found[file.name] = Answer(200, body, kind, ((b"ETag", tag), *_SECURITY), kept=True)
    return found


def unless_known(answer: Answer, headers: Mapping[bytes, Sequence[bytes]]) -> Answer:
    """
    An answer with a file, or one that says that the caller has this file already.

    :param headers: of the request, by their names in lower case.
    """
    asked = b",".join(headers.get(b"if-none-match", ()))
    if asked.strip() == b"*" or dict(answer.headers)[b"ETag"] in _TAG.findall(asked):
        return msgspec.structs.replace(answer, status=304)
    return answer
