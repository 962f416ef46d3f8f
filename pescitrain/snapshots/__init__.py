"""Snapshots of simulations: collected where they lie, read from files and written to them."""

from pescitrain.snapshots.collection import Snapshots as Snapshots

__all__ = ["Snapshots"]
