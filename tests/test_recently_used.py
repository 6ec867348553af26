"""Memory of what was used last, against a list that is searched and summed each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovps.recently_used import RecentlyUsed


class Obvious:
    """Key, value and size at its last use; what was used last at the end."""

    def __init__(self, limit, least):
        self.limit, self.least, self.rows = limit, least, []

    def get(self, key, make):
        value = next((row[1] for row in self.rows if row[0] == key), None)
        value = make() if value is None else value
        self.rows = [row for row in self.rows if row[0] != key] + [(key, value, len(value))]
        while sum(row[2] for row in self.rows) > self.limit and len(self.rows) > self.least:
            del self.rows[0]
        return value


def test_what_fits_is_kept_and_the_oldest_leaves():
    made = []
    memory = RecentlyUsed(len, limit=20)

    def make(key):
        made.append(key)
        return bytes([key]) * 10

    assert [memory.get(key, lambda key=key: make(key))[0] for key in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert made == [1, 2, 3, 2]
    memory.clear()
    assert 1 not in memory
    memory.get(1, lambda: make(1))
    memory.get(2, lambda: make(2))
    assert 1 in memory
    assert 2 in memory


@given(
    uses=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40),
    limit=st.integers(0, 30),
    least=st.integers(0, 3),
)
def test_it_keeps_what_a_list_would(uses, limit, least):
    """Values may grow while they are used; that counts when they are used again."""
    memory, reference = RecentlyUsed(len, limit, least), Obvious(limit, least)
    for key, growth in uses:
        for one in (memory, reference):
            one.get(key, list).extend(range(growth))
        kept = [row[0] for row in reference.rows]
        assert [k for k in range(6) if k in memory] == sorted(kept)
