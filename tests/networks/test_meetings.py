"""Which owners of places see samples together."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.networks.meetings import meetings


@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=40), st.randoms(use_true_random=False))
def test_each_pair_of_owners_meets_at_the_samples_that_both_see(seen, random):
    entries = sorted(seen)
    random.shuffle(entries)
    owners, samples = (torch.tensor([entry[k] for entry in entries], dtype=torch.int64) for k in (0, 1))
    places = torch.tensor(random.sample(range(100), len(entries)), dtype=torch.int64)
    found = meetings(owners, samples, places)
    at = {int(place): entry for place, entry in zip(places, entries, strict=True)}
    common = {}
    for meeting in found:
        both = zip(meeting.at_first.tolist(), meeting.at_second.tolist(), strict=True)
        common[meeting.first, meeting.second] = [(at[i], at[j]) for i, j in both]
    assert len(common) == len(found)
    for first in range(6):
        for second in range(first + 1, 6):
            both = {s for o, s in seen if o == first} & {s for o, s in seen if o == second}
            pairs = common.get((first, second), [])
            assert sorted(pairs) == [((first, s), (second, s)) for s in sorted(both)]


def test_nobody_meets_where_there_is_nothing():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert meetings(nothing, nothing, nothing) == []
