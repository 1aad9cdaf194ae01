"""
Messages and batches, drawn at random: one strategy per class.
"""

from typing import Any, get_args, get_type_hints

import numpy as np
from hypothesis import strategies as st
from msgspec import Raw

from dcounter.figures import Family, Histogram, Samples
from dcounter.ledger.ledger import Ledger
from dcounter.protocol import codec, compaction, copies, exports, messages, questions, scraping, watching
from dcounter.protocol.abilities import Abilities
from dcounter.protocol.batch import Batch, encode_batch
from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.messages import JournalLine, Message
from dcounter.protocol.position import Opening
from dcounter.protocol.receipts import ReceiptGiven, ReceiptWanted
from tests.support import strategies

# With what only journals keep.
MESSAGES: tuple[type[Any], ...] = get_args(Message | JournalLine)


naturals = st.integers(0, MAX_STAMP) | st.sampled_from([0, MAX_STAMP])


milliseconds = st.integers(0, 3_600_000)


texts = st.text(max_size=20)


nonces = st.text(min_size=32, max_size=128)


marks = st.text(max_size=128)


openings = st.builds(Opening, strategies.stamps, strategies.stamps, naturals, st.booleans())


opening_lists = st.dictionaries(strategies.node_ids, st.lists(openings, max_size=2), max_size=2)


lost_runs = st.lists(strategies.lost_runs, max_size=2)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    slices = draw(st.lists(st.integers(1, 4), max_size=4))
    items = sum(slices)
    ids = draw(st.lists(strategies.item_ids, min_size=items, max_size=items))
    tenants = draw(st.lists(strategies.owners, min_size=items, max_size=items))
    if draw(st.booleans()):
        stamps = draw(st.lists(strategies.stamps, min_size=items, max_size=items))
        return Batch(slices, ids, tenants, stamps=stamps)
    bases = [draw(st.integers(0, MAX_STAMP - size + 1)) for size in slices]
    return Batch(slices, ids, tenants, bases=bases)


any_batches = st.one_of(batches(), batches().map(Batch.pack))


raws = any_batches.map(lambda batch: Raw(encode_batch(batch)))


@st.composite
def copy_pieces(draw: st.DrawFn) -> copies.CopyChunk:
    rows = draw(st.lists(st.tuples(strategies.item_ids, strategies.stamps, strategies.owners), max_size=5))
    ledger = Ledger()
    ledger.merge(*([row[column] for row in rows] for column in range(3)))  # type: ignore[arg-type]
    position = draw(strategies.any_positions)
    nothing = copies.CopyChunk(b"", b"", b"", [], position)
    return next((copies.CopyChunk.of(chunk.packed(), position) for chunk in ledger.chunks(9)), nothing)


abilities = st.builds(
    lambda lowest, more, features: Abilities(lowest, lowest + more, features),
    st.integers(1, 30_000),
    st.integers(0, 30_000),
    st.lists(st.text(min_size=1, max_size=32), max_size=3),
)
requests = naturals


stamps = strategies.stamps


positions = strategies.any_positions


node_ids = strategies.node_ids


receipts = st.builds(
    ReceiptGiven,
    st.text("cmusd", max_size=3),
    st.booleans(),
    positions,
    st.none() | st.dictionaries(st.text(min_size=1, max_size=5), naturals, max_size=2),
)


compactions = st.builds(compaction.Compacted, stamps, positions)
_numbers = st.floats(0, 1e9)
_histograms = st.lists(st.integers(1, 1_000), max_size=3, unique=True).flatmap(
    lambda bounds: st.builds(
        Histogram,
        st.just([float(each) for each in sorted(bounds)]),
        st.lists(naturals, min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        _numbers,
    )
)
_families = st.builds(
    Family,
    st.from_regex("[a-z][a-z0-9_]{0,20}", fullmatch=True),
    st.sampled_from(["counter", "gauge", "histogram"]),
    texts,
    st.sampled_from([(), ("node",), ("node", "origin")]),
)
measured = _families.flatmap(
    lambda family: st.builds(
        Samples,
        st.just(family),
        st.lists(
            st.tuples(
                st.tuples(*[texts] * len(family.labels)),
                _histograms if family.kind == "histogram" else _numbers,
            ),
            max_size=3,
        ),
    )
)
limits = st.integers(1, 10_000)
bits = st.integers(0, 16)
signed = st.integers(-(2**63), 2**63 - 1)
names = st.lists(strategies.tenants, max_size=3)


any_question = st.one_of(
    st.builds(questions.LookUp, st.lists(strategies.item_ids, max_size=3)),
    st.builds(questions.ListTenants, st.sampled_from(["name", "count"]), limits, texts, texts, naturals),
    st.builds(questions.SumPrefix, texts),
    st.builds(questions.ListItems, texts, limits, st.none() | strategies.item_ids),
    st.builds(questions.Measure),
    st.builds(questions.ListOwned, texts, stamps, limits, naturals),
    st.builds(
        exports.Export,
        naturals,
        st.integers(1, 1_000_000),
        st.none() | naturals,
        st.booleans(),
        st.lists(texts, max_size=2),
    ),
    st.builds(questions.AuditCount, st.booleans(), st.booleans(), st.none() | stamps),
    st.builds(questions.AuditCompare, bits),
    st.builds(questions.AuditRows, bits, st.lists(st.integers(0, 65_535), max_size=3)),
    st.builds(questions.AuditTenants, st.lists(strategies.owners, max_size=3)),
    st.builds(questions.AuditEnd),
)


columns = st.lists(st.tuples(strategies.item_ids, stamps), max_size=3).map(
    lambda rows: np.array(rows, np.int64).reshape(-1, 2)
)


any_answer = st.one_of(
    st.builds(
        lambda rows, following: questions.OwnedListed.of(rows[:, 0], rows[:, 1], following),
        columns,
        st.none() | naturals,
    ),
    st.builds(questions.LookedUp, st.lists(stamps, max_size=3), st.lists(strategies.owners, max_size=3)),
    st.builds(questions.TenantsListed, names, st.lists(naturals, max_size=3), st.booleans()),
    st.builds(questions.PrefixSummed, naturals, naturals),
    st.builds(
        questions.ItemsListed, st.lists(strategies.item_ids, max_size=3), st.none() | strategies.item_ids
    ),
    st.builds(questions.Measured, naturals, naturals, naturals, naturals, naturals, naturals),
    st.builds(exports.Exported, st.binary(max_size=9), *[naturals] * 5),
    st.builds(
        questions.AuditCounted,
        naturals,
        naturals,
        st.booleans(),
        st.lists(st.builds(questions.WrongCount, strategies.owners, signed, signed), max_size=3),
        naturals,
    ),
    st.builds(questions.AuditCompared, signed, signed, st.binary(max_size=9)),
    st.builds(
        questions.AuditRowsFound,
        st.lists(strategies.item_ids, max_size=3),
        st.lists(stamps, max_size=3),
        st.lists(strategies.owners, max_size=3),
    ),
    st.builds(questions.AuditTenantsFound, st.lists(signed, max_size=3), st.lists(signed, max_size=3)),
    st.builds(questions.AuditEnded),
    st.builds(questions.Declined, st.sampled_from(get_args(get_type_hints(questions.Declined)["why"]))),
)


STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    messages.Hello: st.builds(
        messages.Hello,
        st.integers(),
        texts,
        st.sampled_from(["node", "coordinator", "probe"]),
        st.none() | node_ids,
        node_ids,
        st.lists(node_ids, max_size=4),
        nonces,
        st.integers(1, 65_535),
        marks,
        marks,
        st.none() | abilities,
    ),
    messages.Challenge: st.builds(
        messages.Challenge, node_ids, stamps, nonces, marks, texts, st.none() | abilities
    ),
    messages.Proof: st.builds(messages.Proof, texts),
    messages.Welcome: st.builds(messages.Welcome),
    messages.Farewell: st.builds(messages.Farewell, texts, marks),
    messages.Store: st.builds(
        messages.Store, requests, raws, st.none() | st.builds(ReceiptWanted, positions, milliseconds)
    ),
    messages.Stored: st.builds(
        messages.Stored,
        requests,
        stamps,
        naturals,
        stamps,
        st.dictionaries(naturals, texts, max_size=2),
        st.booleans(),
        st.none() | receipts,
    ),
    messages.Count: st.builds(messages.Count, requests, st.lists(texts, max_size=3), positions, milliseconds),
    messages.Counted: st.builds(
        messages.Counted, requests, st.lists(naturals, max_size=3), st.booleans(), positions, stamps
    ),
    questions.Ask: st.builds(questions.Ask, requests, any_question, positions, milliseconds),
    questions.Withdraw: st.builds(questions.Withdraw, requests),
    questions.Told: st.builds(questions.Told, requests, any_answer, st.booleans(), positions, stamps),
    messages.Await: st.builds(messages.Await, requests, positions, milliseconds),
    messages.Awaited: st.builds(messages.Awaited, requests, st.booleans(), positions, stamps),
    messages.Remove: st.builds(messages.Remove, requests, node_ids),
    watching.Watch: st.builds(watching.Watch, requests, st.booleans(), positions, milliseconds),
    watching.Changed: st.builds(
        watching.Changed,
        requests,
        st.booleans(),
        positions,
        stamps,
        st.booleans(),
        st.lists(strategies.tenants, max_size=3),
        st.lists(naturals, max_size=3),
    ),
    compaction.SetFloor: st.builds(compaction.SetFloor, requests, stamps),
    compaction.Compact: st.builds(compaction.Compact, requests, stamps, positions),
    compaction.Agreed: st.builds(compaction.Agreed, requests, positions, stamps, texts),
    scraping.Scrape: st.builds(scraping.Scrape, requests),
    scraping.Scraped: st.builds(scraping.Scraped, requests, positions, st.lists(measured, max_size=3)),
    messages.JournalState: st.builds(messages.JournalState, st.booleans(), st.booleans()),
    messages.Beat: st.builds(messages.Beat, stamps),
    messages.Report: st.builds(
        messages.Report,
        node_ids,
        st.integers(0, 65_535),
        naturals,
        stamps,
        positions,
        positions,
        stamps,
        naturals,
        naturals,
        opening_lists,
        lost_runs,
        st.lists(node_ids, max_size=3),
        st.none() | texts,
        secrets=naturals,
        floor=stamps,
        compacted=st.none() | compactions,
        tombstones=naturals,
    ),
    messages.Follow: st.builds(messages.Follow, node_ids, strategies.any_node_positions),
    messages.Unfollow: st.builds(messages.Unfollow, node_ids),
    messages.Record: st.builds(
        messages.Record,
        node_ids,
        stamps,
        strategies.numbers,
        stamps,
        raws,
        st.none() | openings,
    ),
    messages.Gap: st.builds(messages.Gap, node_ids),
    copies.Copy: st.builds(copies.Copy),
    copies.CopyBegin: st.builds(
        copies.CopyBegin, positions, opening_lists, lost_runs, naturals, compacted=st.none() | compactions
    ),
    copies.CopyChunk: copy_pieces(),
    copies.CopyEnd: st.builds(copies.CopyEnd, positions, stamps),
}


any_message = st.one_of([STRATEGIES[kind] for kind in get_args(Message)])


def decode_line(kind: type[Any], line: bytes) -> Message | JournalLine:
    return codec.decode_kept(line) if kind is messages.JournalState else codec.decode(line)
