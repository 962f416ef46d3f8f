"""From named arrays, of an .npz or .h5 file, to snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.files.content import Content, Reading, names_of
from pescitrain.snapshots.files.text import Table, read_table

Array = NDArray[np.float64]

OURS = ("inputs", "locations", "parameters", "field", "header")
"""What an archive of ours has beside its values."""


def without_values(arrays: Mapping[str, Any], name: str, reading: Reading) -> tuple[Content, str]:
    """Everything but the values, none of which is read, and the key of those. For one rank.

    Raises
    ------
    SnapshotError       an array is missing, has another shape, or the field is another one
    """
    key, field = _values_of(arrays, name, reading.field)
    if reading.parameters is not None:
        table = read_table(reading.parameters, "-data_parameters")
    else:
        table = Table(names_of(arrays.get("parameters"), 0), _columns(arrays, "inputs", name, "-data_parameters"))
    if reading.coordinates is not None:
        locations = read_table(reading.coordinates, "-data_coordinates").numbers
    else:
        locations = _columns(arrays, "locations", name, "-data_coordinates")
    names = table.names or names_of(None, table.numbers.shape[1])
    shape = tuple(arrays[key].shape)
    if shape != (len(table.numbers), len(locations)):
        raise SnapshotError(
            f"{name}: {key!r} is {shape} and must be (N, K), for {len(table.numbers)} inputs and {len(locations)} "
            "locations"
        )
    return Content(names, field, table.numbers, locations, np.zeros((len(table.numbers), 0))), key


def _columns(arrays: Mapping[str, Any], key: str, name: str, option: str) -> Array:
    """(N, s), also where the file has (N,)."""
    if key not in arrays:
        raise SnapshotError(f"{name}: it has no {key!r} (but {', '.join(arrays) or 'nothing'}); give them by {option}")
    try:
        array = np.asarray(arrays[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise SnapshotError(f"{name}: its {key!r} are no numbers; write it again") from None
    if array.ndim not in (1, 2):
        raise SnapshotError(f"{name}: its {key!r} are {array.shape}; they must be (N, s)")
    return array[:, None] if array.ndim == 1 else array


def _values_of(arrays: Mapping[str, Any], name: str, wanted: str | None) -> tuple[str, str]:
    """The key of the values, and what they are."""
    own = str(np.asarray(arrays["field"])) if "field" in arrays else None
    if wanted is not None and wanted in arrays and wanted not in OURS:
        return wanted, wanted if wanted != "values" else own or "u"
    if "values" in arrays and (wanted is None or wanted == own):
        return "values", own or "u"
    others = [key for key in arrays if key not in OURS]
    if wanted is None and len(others) == 1:
        return others[0], others[0]
    listed = ", ".join([own] if own and others == ["values"] else others) or "none"
    if wanted is None:
        raise SnapshotError(f"{name}: it has no 'values'; say which array by -data_field (there are {listed})")
    raise SnapshotError(f"{name}: it has no field {wanted!r} (there are {listed})")
