"""
What a request to store may hold, and what each mistake in it is answered with.
"""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcounter.errors import InvalidItems, ItemError, MalformedBody, TooManyItems
from dcounter.http.items import LineReader, ValidItems, parse_items, parse_lines, parse_valid_items
from dcounter.stamps import InvalidStamp, parse_stamp, show_stamp
from dcounter.store import Items

LATEST = 2_000_000_000 * 10**9
SMALLEST, LARGEST = -(2**63), 2**63 - 1


def parse(body: bytes, *, max_items: int = 1_000, max_tenant_bytes: int = 256) -> Items:
    return parse_items(body, latest=lambda: LATEST, max_items=max_items, max_tenant_bytes=max_tenant_bytes)


def errors(body: bytes) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidItems) as caught:
        parse(body)
    return [(each.index, each.field, each.message) for each in caught.value.errors]


def test_reads_columns() -> None:
    body = b'[{"ID":1,"tenant":"hello"},{"ID":2,"tenant":"publicsonar"}]'
    assert parse(body) == Items(ids=[1, 2], tenants=["hello", "publicsonar"], stamps=None)


def test_an_empty_array_holds_no_items() -> None:
    assert parse(b" [ ] ") == Items(ids=[], tenants=[])


def test_id_may_be_spelled_as_go_allowed() -> None:
    assert parse(b'[{"id":7,"tenant":"a"}]') == Items(ids=[7], tenants=["a"])


def test_both_spellings_may_occur_in_one_request() -> None:
    body = b'[{"id":7,"tenant":"a"},{"ID":8,"tenant":"b"}]'
    assert parse(body) == Items(ids=[7, 8], tenants=["a", "b"])


def test_fields_we_do_not_know_are_ignored() -> None:
    body = b'[{"ID":1,"tenant":"a","name":null,"tags":["x",{"y":1.5}]}]'
    assert parse(body) == Items(ids=[1], tenants=["a"])


def test_an_item_may_have_fields_beyond_ours_and_be_read_at_once() -> None:
    for spelling in ("ID", "id"):
        body = f'[{{"{spelling}":1,"tenant":"ID","Name":"Tenant","lastUpdateDt":"1970-01-01T00:00:00.5Z"}}]'
        assert parse(body.encode()) == Items(ids=[1], tenants=["ID"], stamps=[500_000_000])


@pytest.mark.parametrize(
    "item",
    [
        '{"ID":1,"tenant":"a","LastUpdateDt":"1970-01-01T00:00:01Z"}',
        '{"ID":1,"Tenant":"a","lastUpdateDt":"1970-01-01T00:00:01Z"}',
        '{"iD":1,"tenant":"a","lastUpdateDt":"1970-01-01T00:00:01Z"}',
        '{"Id":1,"TENANT":"a","LASTUPDATEDT":"1970-01-01T00:00:01Z"}',
        '{"id":1,"tenant":"a","lastupdatedt":"1970-01-01T00:00:01Z"}',
        '{"ID":1,"tenant":"a","la\u017ftUpdateDt":"1970-01-01T00:00:01Z"}',
        '{"ID":1,"tenant":"a","\\u004castUpdateDt":"1970-01-01T00:00:01Z"}',
        '{"ID":1,"ten\\u0041nt":"a","lastUpdateDt":"1970-01-01T00:00:01Z"}',
    ],
)
def test_names_in_another_case_are_ours(item: str) -> None:
    assert parse(f"[{item}]".encode()) == Items(ids=[1], tenants=["a"], stamps=[10**9])
    # A neighbour that says it as we do changes nothing.
    usual = '{"ID":2,"tenant":"b","lastUpdateDt":"1970-01-01T00:00:02Z"}'
    assert parse(f"[{usual},{item}]".encode()).stamps == [2 * 10**9, 10**9]


@pytest.mark.parametrize(
    "name", ["la\ufb06UpdateDt", "tenant ", "\u0130d", "\u0131d", "\uff29\uff24", "I-D", ""]
)
def test_names_that_only_look_like_ours_are_not(name: str) -> None:
    for more in ("", ',"x":"\\n"'):
        body = f'[{{"ID":1,"tenant":"a",{json.dumps(name, ensure_ascii=False)}:5{more}}}]'
        assert parse(body.encode()) == Items(ids=[1], tenants=["a"])


def test_a_name_given_twice_in_one_spelling_counts_once_more() -> None:
    stamps = '"{0}":"1970-01-01T00:00:01Z","{0}":"1970-01-01T00:00:02Z"'
    for name in ("lastUpdateDt", "LastUpdateDt"):
        body = '[{"ID":1,"ID":2,"tenant":"a","tenant":"b",' + stamps.format(name) + "}]"
        assert parse(body.encode()) == Items(ids=[2], tenants=["b"], stamps=[2 * 10**9])


def in_some_case(name: str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.sampled_from([each.lower(), each.upper()]) for each in name)).map("".join)


some_values = (
    st.integers(-3, 3)
    | st.none()
    | st.booleans()
    | st.sampled_from(
        ["a", "", "ID", "Tenant", "x" * 257, "1970-01-01T00:00:01Z", "0001-01-01T00:00:00Z", "yesterday"]
    )
)


@given(st.data())
def test_the_case_of_names_changes_nothing(data: st.DataObject) -> None:
    usual, odd = [], []
    names: dict[str, str] = {}
    for _ in range(data.draw(st.integers(0, 3))):
        item = data.draw(
            st.dictionaries(
                st.sampled_from(["ID", "tenant", "lastUpdateDt", "deleted", "other"]), some_values
            )
        )
        spelled = {name: data.draw(in_some_case(name)) for name in item}
        names |= {spelling: name for name, spelling in spelled.items()}
        usual.append(item)
        odd.append({spelled[name]: value for name, value in item.items()})

    def outcome(items: Any) -> Any:
        try:
            return parse(json.dumps(items).encode())
        except InvalidItems as refusal:
            return [(each.index, names.get(each.field, each.field), each.message) for each in refusal.errors]

    assert outcome(odd) == outcome(usual)


def test_the_ends_of_64_bits_are_ids() -> None:
    body = f'[{{"ID":{SMALLEST},"tenant":"a"}},{{"ID":{LARGEST},"tenant":"a"}}]'.encode()
    assert parse(body).ids == [SMALLEST, LARGEST]


@pytest.mark.parametrize("spelling", ["ID", "id"])
@pytest.mark.parametrize("more", ["", ',"tenant":null', ',"name":[]', ',"lastUpdateDt":null'])
def test_a_deleted_item_has_no_tenant(spelling: str, more: str) -> None:
    body = f'[{{"{spelling}":1,"tenant":"a"}},{{"{spelling}":2,"deleted":true{more}}}]'
    assert parse(body.encode()) == Items(ids=[1, 2], tenants=["a", None])
    assert parse(f'[{{"{spelling}":2,"deleted":true{more}}}]'.encode()) == Items(ids=[2], tenants=[None])


def test_both_spellings_may_occur_in_one_request_that_deletes() -> None:
    body = b'[{"id":7,"deleted":true},{"ID":8,"tenant":"b"},{"ID":9,"Deleted":true}]'
    assert parse(body) == Items(ids=[7, 8, 9], tenants=[None, "b", None])


def test_a_deleted_item_may_have_a_stamp() -> None:
    body = b'[{"ID":2,"deleted":true,"lastUpdateDt":"1970-01-01T00:00:01Z"},{"ID":1,"tenant":"a"}]'
    assert parse(body) == Items(ids=[2, 1], tenants=[None, "a"], stamps=[10**9, None])


@pytest.mark.parametrize("absent", ["null", "false"])
def test_what_is_not_deleted_counts_as_without_that_field(absent: str) -> None:
    assert parse(f'[{{"ID":1,"tenant":"a","deleted":{absent}}}]'.encode()) == Items([1], ["a"])
    assert errors(f'[{{"ID":1,"deleted":{absent}}}]'.encode()) == [(0, "tenant", MISSING)]


def test_the_limit_of_a_name_applies_beside_deleted_items() -> None:
    body = b'[{"ID":1,"deleted":true},{"ID":2,"tenant":"abcd"}]'
    assert parse(body, max_tenant_bytes=4).tenants == [None, "abcd"]
    with pytest.raises(InvalidItems, match="item 1, tenant: must be 1 to 3 bytes of UTF-8"):
        parse(body, max_tenant_bytes=3)


@pytest.mark.parametrize("absent", ["null", '"0001-01-01T00:00:00Z"'], ids=["null", "the zero time of Go"])
def test_stamps_that_count_as_absent(absent: str) -> None:
    body = f'[{{"ID":1,"tenant":"a","lastUpdateDt":{absent}}}]'.encode()
    assert parse(body).stamps is None
    beside = body[:-1] + b',{"ID":2,"tenant":"a","lastUpdateDt":"1970-01-01T00:00:01Z"}]'
    assert parse(beside).stamps == [None, 10**9]
    # The slow reader sees the same.
    assert parse(body[:-1] + b',{"id":2,"tenant":"a"}]').stamps is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Input data was truncated"),
        (b"null", "the body is not an array of items"),
        (b'{"ID":1,"tenant":"a"}', "the body is not an array of items"),
        (b"17", "the body is not an array of items"),
        (b"1e400", "the body is not JSON: Number out of range"),
        (b'[{"ID":1,"tenant":"a"}', "the body is not JSON: Input data was truncated"),
        (b'[{"ID":1,"tenant":"a"}] x', "trailing characters (byte 25)"),
        (b'[{"ID":"x","tenant":"a"}] x', "trailing characters (byte 27)"),
        (b'{"ID":1,"tenant":"a"}\n{"ID":2}\n', "add the header Content-Type: application/x-ndjson"),
        (b"[1,2,]", "trailing comma in array"),
        (b'[{"ID":NaN,"tenant":"a"}]', "the body is not JSON"),
        (b"\xef\xbb\xbf[]", "invalid character (byte 0)"),
        (b'[{"ID":1,"tenant":"\xff"}]', "the body is not UTF-8 (byte 19)"),
        (b'[{"ID":1,"tenant":"a","x":"\xff"}]', "the body is not UTF-8 (byte 27)"),
        (b'[{"ID":1,"tenant":"\xed\xa0\x80"}]', "the body is not UTF-8 (byte 19)"),
        (b'[{"ID":1,"tenant":"\\ud800"}]', "or it contains half of a surrogate pair"),
    ],
)
def test_what_is_no_array_of_json_is_malformed(body: bytes, message: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse(body)
    assert message in str(caught.value)
    assert caught.value.outcome == "not_applied"


def test_nesting_is_malformed_before_it_exhausts_the_stack() -> None:
    for start in (b"", b'[{"ID":1,"tenant":"a","x":', b'[{"ID":1.5,"tenant":"a","x":'):
        for deep in (b"[" * 100_000, b'{"x":' * 100_000):
            with pytest.raises(MalformedBody, match="the body is nested too deeply"):
                parse(start + deep)


MISSING = "is missing"
NO_INTEGER = "must be an integer from -2^63 to 2^63 - 1"
NO_TEXT = "must be a string"
NO_FLAG = "must be true or false"
DELETED = "must be absent: the item is deleted"
BAD_LENGTH = "must be 1 to 256 bytes of UTF-8"


@pytest.mark.parametrize(
    ("item", "field", "message"),
    [
        ('{"tenant":"a"}', "ID", MISSING),
        ('{"ID":null,"tenant":"a"}', "ID", MISSING),
        ('{"id":null,"tenant":"a"}', "id", MISSING),
        ('{"ID":"1","tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":1.0,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":1e2,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":true,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":[1],"tenant":"a"}', "ID", NO_INTEGER),
        ('{"id":"1","tenant":"a"}', "id", NO_INTEGER),
        ('{"ID":9223372036854775808,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":-9223372036854775809,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":18446744073709551616,"tenant":"a"}', "ID", NO_INTEGER),
        ('{"ID":1,"id":1,"tenant":"a"}', "id", "is given twice, as ID and id"),
        ('{"ID":null,"id":1,"tenant":"a"}', "id", "is given twice, as ID and id"),
        ('{"Id":1,"ID":1,"tenant":"a"}', "ID", "is given twice, as Id and ID"),
        ('{"ID":1,"tenant":"a","Tenant":"a"}', "Tenant", "is given twice, as tenant and Tenant"),
        (
            '{"ID":1,"tenant":"a","LastUpdateDt":null,"lastUpdateDt":"1970-01-01T00:00:01Z"}',
            "lastUpdateDt",
            "is given twice, as LastUpdateDt and lastUpdateDt",
        ),
        ('{"ID":1,"TENANT":5}', "TENANT", NO_TEXT),
        ('{"ID":1}', "tenant", MISSING),
        ('{"ID":1,"tenant":null}', "tenant", MISSING),
        ('{"ID":1,"tenant":5}', "tenant", NO_TEXT),
        ('{"ID":1,"tenant":["a"]}', "tenant", NO_TEXT),
        ('{"ID":1,"tenant":""}', "tenant", BAD_LENGTH),
        ('{"ID":1,"tenant":"' + "a" * 257 + '"}', "tenant", BAD_LENGTH),
        ('{"ID":1,"tenant":"' + "é" * 129 + '"}', "tenant", BAD_LENGTH),
        ('{"ID":1,"tenant":"' + "\\ud83d\\ude00" * 65 + '"}', "tenant", BAD_LENGTH),
        ('{"ID":1,"tenant":"a","lastUpdateDt":5}', "lastUpdateDt", NO_TEXT),
        (
            '{"ID":1,"tenant":"a","lastUpdateDt":"1969-12-31T23:59:59.999999999Z"}',
            "lastUpdateDt",
            "is before 1970",
        ),
        (
            '{"ID":1,"tenant":"a","lastUpdateDt":"9999-12-31T23:59:59Z"}',
            "lastUpdateDt",
            "is too far ahead of this machine's clock",
        ),
        ('{"ID":1,"tenant":"a","deleted":true}', "tenant", DELETED),
        ('{"ID":1,"TENANT":"a","DELETED":true}', "TENANT", DELETED),
        ('{"ID":1,"tenant":"","deleted":true}', "tenant", DELETED),
        ('{"ID":1,"tenant":5,"deleted":true}', "tenant", DELETED),
        ('{"ID":1,"tenant":"a","deleted":true,"x":1}', "tenant", DELETED),
        ('{"ID":1,"tenant":"a","d\\u0065leted":true}', "tenant", DELETED),
        ('{"ID":1,"tenant":"a","deleted":1}', "deleted", NO_FLAG),
        ('{"ID":1,"deleted":"true"}', "deleted", NO_FLAG),
        ('{"ID":1,"deleted":true,"Deleted":false}', "Deleted", "is given twice, as deleted and Deleted"),
        ('{"deleted":true}', "ID", MISSING),
        ("5", "", "is not an object"),
        ("null", "", "is not an object"),
        ("[]", "", "is not an object"),
    ],
)
def test_what_is_no_item_is_named(item: str, field: str, message: str) -> None:
    body = f'[{{"ID":1,"tenant":"a"}},{item},{{"ID":2,"tenant":"b"}}]'.encode()
    assert errors(body) == [(1, field, message)]


def test_a_number_of_five_thousand_digits_is_out_of_range() -> None:
    body = b'[{"ID":1,"tenant":"a"},{"ID":' + b"9" * 5_000 + b',"tenant":"a"}]'
    assert errors(body) == [(1, "", "contains a number that is out of range")]


def test_names_up_to_the_limit_are_tenants() -> None:
    for name in ("a" * 256, "é" * 128, "😀" * 64, "..", "a/b", "\0", "\t", "%2F"):
        assert parse(json.dumps([{"ID": 1, "tenant": name}]).encode()).tenants == [name]


def test_the_limit_of_a_name_can_be_set() -> None:
    assert parse(b'[{"ID":1,"tenant":"abc"}]', max_tenant_bytes=3).tenants == ["abc"]
    with pytest.raises(InvalidItems, match="must be 1 to 3 bytes of UTF-8"):
        parse(b'[{"ID":1,"tenant":"abcd"}]', max_tenant_bytes=3)


def test_every_bad_field_of_an_item_is_named() -> None:
    assert errors(b'[{"ID":"1","tenant":7,"lastUpdateDt":"yesterday"}]') == [
        (0, "ID", NO_INTEGER),
        (0, "tenant", NO_TEXT),
        (0, "lastUpdateDt", NOT_RFC_3339),
    ]


def test_the_first_hundred_errors_are_named() -> None:
    found = errors(b"[" + b",".join([b'{"ID":true}'] * 1_000) + b"]")
    assert len(found) == 100
    assert found[-1] == (49, "tenant", MISSING)


def test_an_odd_number_of_errors_ends_at_a_hundred_too() -> None:
    assert len(errors(b"[5," + b",".join([b'{"ID":true}'] * 99) + b"]")) == 100


def test_the_refusal_names_the_first_error() -> None:
    error = InvalidItems([ItemError(3, "ID", "is missing")])
    assert str(error) == "item 3, ID: is missing; nothing of the request was stored"


@pytest.mark.parametrize(
    "item", [b'{"ID":1,"tenant":"a"}', b'{"id":1,"tenant":"a"}', b"5"], ids=["ID", "id", "bad"]
)
def test_too_many_items_are_refused(item: bytes) -> None:
    with pytest.raises(TooManyItems) as caught:
        parse(b"[" + b",".join([item] * 4) + b"]", max_items=3)
    assert str(caught.value) == "the request has 4 items; the limit is 3"


def test_the_latest_stamp_is_allowed_and_no_later_one() -> None:
    body = '[{"ID":1,"tenant":"a","lastUpdateDt":"2033-05-18T03:33:20.%sZ"}]'
    assert parse((body % "000000000").encode()).stamps == [LATEST]
    assert errors((body % "000000001").encode()) == [
        (0, "lastUpdateDt", "is too far ahead of this machine's clock")
    ]


NOT_RFC_3339 = "is not an RFC 3339 time such as 2026-01-31T12:00:00.123456789Z"


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01t00:00:01.5z", 1_500_000_000),
        ("2009-02-13T23:31:30.123456789Z", 1_234_567_890_123_456_789),
        ("2009-02-14T01:01:30.12+01:30", 1_234_567_890_120_000_000),
        ("2009-02-13T15:31:30-08:00", 1_234_567_890_000_000_000),
        ("2000-02-29T00:00:00-00:00", 951_782_400_000_000_000),
        ("1970-01-01T00:30:00+01:00", -1_800_000_000_000),
    ],
)
def test_reads_rfc_3339_exactly(text: str, stamp: int) -> None:
    assert parse_stamp(text) == stamp


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NOT_RFC_3339),
        ("2026-01-31", NOT_RFC_3339),
        ("2026-01-31 12:00:00Z", NOT_RFC_3339),
        ("2026-01-31T12:00:00", NOT_RFC_3339),
        ("2026-01-31T12:00:00.Z", NOT_RFC_3339),
        ("2026-01-31T12:00:00,5Z", NOT_RFC_3339),
        ("2026-01-31T12:00Z", NOT_RFC_3339),
        ("2026-01-31T12:00:00Z\n", NOT_RFC_3339),
        ("2026-01-31T12:00:00+0100", NOT_RFC_3339),
        ("٢٠٢٦-01-31T12:00:00Z", NOT_RFC_3339),
        ("2026-01-31T12:00:00.0000000000Z", "has more than nine fractional digits"),
        ("2016-12-31T23:59:60Z", "is a leap second, which has no stamp of its own: send second 59 instead"),
        ("2026-01-31T24:00:00Z", "has an invalid time of day"),
        ("2026-01-31T23:60:00Z", "has an invalid time of day"),
        ("2026-01-31T23:59:61Z", "has an invalid time of day"),
        ("2026-02-29T12:00:00Z", "has an invalid date"),
        ("2026-13-01T12:00:00Z", "has an invalid date"),
        ("0000-01-01T12:00:00Z", "has an invalid date"),
        ("2026-01-31T12:00:00+24:00", "has an invalid offset"),
        ("2026-01-31T12:00:00+23:60", "has an invalid offset"),
    ],
)
def test_refuses_other_times_and_says_why(text: str, message: str) -> None:
    with pytest.raises(InvalidStamp) as caught:
        parse_stamp(text)
    assert str(caught.value) == message


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    seconds=st.integers(0, LATEST // 10**9 - 1),
    fraction=st.text("0123456789", max_size=9),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_any_time_in_any_offset_is_the_same_stamp(seconds: int, fraction: str, offset: int) -> None:
    local = EPOCH + timedelta(seconds=seconds, minutes=offset)
    sign = "-" if offset < 0 else "+"
    zone = f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    point = "." if fraction else ""
    text = f"{local:%Y-%m-%dT%H:%M:%S}{point}{fraction}{zone}"
    stamp = seconds * 10**9 + int(fraction.ljust(9, "0"))
    assert parse_stamp(text) == stamp
    shown = show_stamp(stamp)
    assert (parse_stamp(shown), len(shown), shown[-1]) == (stamp, len("2026-01-31T12:00:00.123456789Z"), "Z")


class TestInPart:
    """
    What is valid, although not all is.
    """

    def parse(self, body: bytes, *, max_items: int = 1_000) -> ValidItems:
        return parse_valid_items(body, latest=lambda: LATEST, max_items=max_items, max_tenant_bytes=256)

    def test_a_valid_body_is_valid(self) -> None:
        for body in (b"[]", b'[{"ID":1,"tenant":"a"},{"id":2,"Deleted":true}]'):
            assert self.parse(body) == ValidItems(parse(body))

    def test_valid_items_are_read_beside_invalid_ones(self) -> None:
        body = (
            b'[{"ID":1,"tenant":"a"},{"ID":"2"},5,{"ID":3,"deleted":true},{"ID":1e999,"tenant":"a"},'
            b'{"ID":4,"tenant":"b","lastUpdateDt":"1970-01-01T00:00:01Z"}]'
        )
        found = self.parse(body)
        assert found.items == Items([1, 3, 4], ["a", None, "b"], [None, None, 10**9])
        assert found.invalid == 3
        assert [(each.index, each.field, each.message) for each in found.errors] == [
            (1, "ID", NO_INTEGER),
            (1, "tenant", MISSING),
            (2, "", "is not an object"),
            (4, "", "contains a number that is out of range"),
        ]

    def test_all_invalid_items_are_counted_and_the_first_mistakes_are_listed(self) -> None:
        found = self.parse(b"[" + b",".join([b'{"ID":true}'] * 200) + b"]")
        assert (len(found.items), found.invalid, len(found.errors)) == (0, 200, 100)

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[", b"[5,", b'[5,"\xff"]', b'[1e999,"\\ud800"]', b"[5," + b"[" * 100_000]
    )
    def test_what_is_no_array_of_json_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedBody):
            self.parse(body)

    def test_too_many_items_are_refused(self) -> None:
        with pytest.raises(TooManyItems):
            self.parse(b"[1,2,3,4]", max_items=3)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)


@given(
    st.lists(
        st.tuples(st.integers(SMALLEST, LARGEST), texts | st.none(), st.sampled_from(["ID", "id"])),
        max_size=20,
    ),
    st.booleans(),
)
def test_valid_items_come_out_as_they_went_in(
    rows: list[tuple[int, str | None, str]], ascii_only: bool
) -> None:
    body = json.dumps(
        [
            {spelling: number, "deleted": True} if tenant is None else {spelling: number, "tenant": tenant}
            for number, tenant, spelling in rows
        ],
        ensure_ascii=ascii_only,
    ).encode()
    assert parse(body) == Items(ids=[row[0] for row in rows], tenants=[row[1] for row in rows])


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ID", "id", "tenant", "lastUpdateDt", "deleted", "other"]), inner, max_size=5
        )
    ),
)


@given(st.lists(documents, max_size=5) | documents)
def test_any_document_is_items_or_a_refusal(document: Any) -> None:
    body = json.dumps(document).encode()
    try:
        items = parse(body)
    except MalformedBody:
        pass
    except InvalidItems:
        found = TestInPart().parse(body)
        assert len(found.items) + found.invalid == len(document)
        assert found.errors
    else:
        assert len(items) == len(document)
        assert all(type(each) is int and SMALLEST <= each <= LARGEST for each in items.ids)
        assert all(each is None or 1 <= len(each.encode()) <= 256 for each in items.tenants)


@given(st.binary() | st.binary().map(lambda tail: b'[{"ID":1,"tenant":"' + tail + b'"}]'))
@example(b'[{"ID":1,"tenant":"a","x":1e999}]')
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    with contextlib.suppress(MalformedBody, InvalidItems):
        parse(body)


fields = st.dictionaries(
    st.sampled_from(["ID", "id", "Id", "tenant", "lastUpdateDt", "deleted", "other"]),
    st.one_of(
        st.integers(-(2**64), 2**64),
        st.sampled_from(["a", "{", "}\n{", "ü", "", "2026-01-31T12:00:00Z", "0001-01-01T00:00:00Z"]),
        st.booleans() | st.none(),
        documents,
    ),
    max_size=5,
)
good_lines = st.builds(
    lambda name, number, tenant, more: json.dumps({name: number, "tenant": tenant, **more}),
    st.sampled_from(["ID", "id"]),
    st.integers(SMALLEST, LARGEST),
    texts,
    st.just({}) | st.dictionaries(st.sampled_from(["x", "}"]), documents, max_size=2),
)
odd_lines = st.one_of(
    fields.map(json.dumps),
    documents.map(json.dumps),
    st.sampled_from(
        ["", " ", "\r", "{", "}", "{}", "x", '{"ID":1,', '"tenant":"a"}', '{"ID":1,"x":[{}', "{}]}"]
    ),
    st.tuples(good_lines, good_lines).map(" ".join),
)


def alone(line: bytes) -> Items | list[tuple[str, str]] | None:
    """
    The one item of a line in an array, or what is wrong with it; `None` if that is no array of one item.
    """
    try:
        items = parse(b"[" + line + b"]")
    except InvalidItems as refused:
        return [(error.field, error.message) for error in refused.errors]
    except MalformedBody:
        return None
    return items if len(items) == 1 else None


@given(
    lines=st.lists(good_lines | odd_lines, min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
)
@example(lines=['{"ID":1,"tenant":"a","x":[{}', "{}]}", '{"ID":1,"tenant":"a"} {}'], end="\n", ends=True)
def test_lines_are_what_each_of_them_is_in_an_array(lines: list[str], end: str, ends: bool) -> None:
    data = (end.join(lines) + (end if ends else "")).encode()
    number = data.count(b"\n") + (not data.endswith(b"\n"))
    reader = LineReader(latest=lambda: LATEST, max_tenant_bytes=256)
    whole = Items([], [], [])
    all_valid = True
    for index, line in enumerate(data.removesuffix(b"\n").split(b"\n")):
        found = alone(line) if line.strip() else Items([], [], [])
        mistakes = [(error.field, error.message) for error in reader.read(line, index)]
        if isinstance(found, Items):
            assert mistakes == []
            stamps = found.stamps or [None] * len(found)
            whole = Items(
                [*whole.ids, *found.ids], [*whole.tenants, *found.tenants], [*(whole.stamps or ()), *stamps]
            )
        else:
            assert mistakes == found if found is not None else mistakes
        all_valid = all_valid and isinstance(found, Items) and len(found) == 1
    if not any(stamp is not None for stamp in whole.stamps or ()):
        whole = Items(whole.ids, whole.tenants)
    assert reader.items() == whole
    at_once = parse_lines(data, number, latest=lambda: LATEST, max_tenant_bytes=256)
    assert at_once in (None, whole)
    assert at_once is None or all_valid


def test_usual_lines_are_read_at_once() -> None:
    for line in (b'{"ID":1,"tenant":"a"}', b'{"id":1,"tenant":"a"}', b'{"ID":1,"tenant":"a","x":{}}'):
        for data in (line, line + b"\n", line + b"\r\n"):
            assert parse_lines(data, 1, latest=lambda: LATEST, max_tenant_bytes=256) == Items([1], ["a"])
    two = b'{"ID":1,"tenant":"a"}\n{"ID":2,"deleted":true}\n'
    assert parse_lines(two, 2, latest=lambda: LATEST, max_tenant_bytes=256) == Items([1, 2], ["a", None])
