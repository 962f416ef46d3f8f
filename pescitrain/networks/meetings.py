"""Where two of many see the same sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Meeting:
    """The samples that two owners of places have in common."""

    first: int
    second: int
    at_first: Tensor  # (c,) int64: places of the first owner
    at_second: Tensor  # (c,) int64: places of the second, at the same samples


def meetings(owners: Tensor, samples: Tensor, places: Tensor) -> list[Meeting]:
    """Of entries (K,), owner and sample, at most one of each kind, which pairs of owners have samples in common.

    ``first`` < ``second``. Cost: a sort of the entries, and of their pairs at a sample.
    """
    order = torch.argsort(owners, stable=True)
    order = order[torch.argsort(samples[order], stable=True)]
    owners, samples, places = owners[order], samples[order], places[order]
    pairs, apart = [], 1
    while True:
        left = (samples[apart:] == samples[:-apart]).nonzero()[:, 0]
        if not len(left):
            break
        pairs.append(torch.stack((left, left + apart)))
        apart += 1
    if not pairs:
        return []
    left, right = torch.cat(pairs, dim=1)
    size = int(owners.max()) + 1
    keys, order = torch.sort(owners[left] * size + owners[right], stable=True)
    found, counts = torch.unique_consecutive(keys, return_counts=True)
    at_left, at_right = (places[side[order]].split(counts.tolist()) for side in (left, right))
    return [
        Meeting(key // size, key % size, one, other)
        for key, one, other in zip(found.tolist(), at_left, at_right, strict=True)
    ]
