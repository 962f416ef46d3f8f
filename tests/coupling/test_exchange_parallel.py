"""Ranks that simulate and ranks that train: every row arrives once, where its location is, and networks come back."""

import numpy as np
import pytest
import torch

from pescitrain import Exchange, OptionError, Snapshots
from pescitrain.run.model import export_model

pytestmark = pytest.mark.parallel(2, 3)


class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2.0 * x


def locations(comm):
    """Two on each rank of a side."""
    return comm.rank + np.array([[0.0], [0.5]])


@pytest.mark.parametrize("training", [1, 2])
def test_rows_arrive_once_and_in_order(comm, tmp_path, training):
    if training == comm.size:
        with pytest.raises(OptionError, match=rf"{training} of {comm.size} ranks cannot train: each side needs one"):
            Exchange(comm, training)
        return
    exchange = Exchange(comm, training)
    assert exchange.trains == (comm.rank >= comm.size - training)
    if exchange.trains:
        mine, counts = exchange.share(None), []
        while count := exchange.receive(mine):
            counts.append(count)
            file = tmp_path / f"{len(mine)}.pt2"
            if exchange.comm.rank == 0:
                assert export_model(Doubled(), {"x": 1}, file) == ""
            exchange.publish(file)
        assert sum(counts) == 4
        assert exchange.receive(mine) == 0
        np.testing.assert_array_equal(mine.inputs[:, 0], np.arange(4.0))
        np.testing.assert_array_equal(mine.values, np.arange(1.0, 5.0)[:, None] * (1.0 + mine.locations[:, 0]))
        everything = exchange.comm.allreduce(len(mine.locations))
        assert everything == 2 * (comm.size - training)
    else:
        where = locations(exchange.comm)
        snapshots = exchange.share(Snapshots(where, ("a",), comm=exchange.comm))
        for a in range(4):
            snapshots.append([a], (a + 1.0) * (1.0 + where[:, 0]))
            if a % 2:
                exchange.send(snapshots)
        network = exchange.latest(wait=True)
        assert network is not None
        assert float(network(torch.full((1, 1), 3.0, dtype=torch.float64))) == 6.0
        exchange.finish()
    exchange.close()


def test_only_the_simulating_side_sends(comm):
    exchange = Exchange(comm, 1)
    if exchange.trains:
        with pytest.raises(OptionError, match="this rank trains"):
            exchange.finish()
    exchange.close()
