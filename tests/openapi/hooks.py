"""
What schemathesis has to know beyond the OpenAPI document, because no JSON schema can say it.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies as st

_NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_LINES = st.fixed_dictionaries({"ID": st.integers(-(2**63), 2**63 - 1), "tenant": _NAMES}).map(
    lambda item: json.dumps(item) + "\n"
)


def _rfc3339(when: datetime) -> str:
    return when.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")


# From 1970 to ten seconds ahead of the daemon's clock, which no schema knows.
_FIRST = datetime(1970, 1, 2, tzinfo=UTC)
_SECONDS = int((datetime.now(UTC) - _FIRST) / timedelta(seconds=1))
schemathesis.openapi.format(
    "date-time", st.integers(0, _SECONDS).map(lambda seconds: _rfc3339(_FIRST + timedelta(seconds=seconds)))
)

# Only a cluster can make its positions.
schemathesis.openapi.format("position", st.just(os.environ.get("DCOUNTER_POSITION", "")))

# A schema of lines of JSON comes with OpenAPI 3.2.
schemathesis.openapi.format("ndjson", st.lists(_LINES, max_size=5).map("".join))


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: Any, value: Any) -> bytes:
    """
    Lines as they are. What should be no text becomes a line that is no item.
    """
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """
    To a JSON schema, 1.0 is an integer. To this API it is none: integers are written without a fraction.
    """
    if isinstance(body, list):
        return [map_body(context, each) for each in body]
    if isinstance(body, dict):
        return {name: map_body(context, each) for name, each in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """
    Leave out loads with `receipt=1`: OpenAPI cannot say that a value is for one type of body only.
    """
    return case.media_type != "application/x-ndjson" or (case.query or {}).get("receipt") != "1"
