"""
Hypothesis strategies for what the floors speak of, used by several test files.
"""

from hypothesis import strategies as st

from dcounter.protocol.clock import MAX_STAMP
from dcounter.protocol.position import LostRun, NodePosition, Position

# Any number that may stand in a message, the bounds more often than chance would have it.
stamps = st.integers(0, MAX_STAMP) | st.sampled_from([0, 1, MAX_STAMP - 1, MAX_STAMP])
numbers = st.integers(1, MAX_STAMP) | st.sampled_from([1, MAX_STAMP])
node_ids = st.integers(0, 65_535) | st.integers(0, 3)
item_ids = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)

# Any text that UTF-8 can hold: astral characters, NUL, line ends, quotes. Never empty.
tenants = st.text(min_size=1, max_size=8) | st.sampled_from(["a", "b", "\n", "\u2028", "\U0001f600"])
owners = st.none() | tenants

# Positions as peers may send them: runs below the fold, nodes without anything.
any_node_positions = st.builds(NodePosition, stamps, st.dictionaries(stamps, numbers, max_size=3))
any_positions = st.builds(Position, st.dictionaries(node_ids, any_node_positions, max_size=3))

lost_runs = st.builds(LostRun, node_ids, stamps, stamps, stamps)
