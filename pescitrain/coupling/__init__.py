"""The doors to simulation codes: what they give to a training, and what a trained network gives back.

``-pc_type python -pc_python_type pescitrain.coupling.NetworkPC`` works from any PETSc program.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "NetworkPC":
        from pescitrain.coupling.network_pc import NetworkPC

        return NetworkPC
    raise AttributeError(f"module 'pescitrain.coupling' has no attribute {name!r}")
