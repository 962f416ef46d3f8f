"""The trained network as a file that any torch program loads."""

from __future__ import annotations

import copy
import importlib.util
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pescitrain.errors import PescitrainError
from pescitrain.networks.device import HOST
from pescitrain.problem import OperatorSurrogate, Surrogate
from pescitrain.problem.operator import BasisFunctions


def save_model(surrogate: Surrogate, folder: Path) -> str:
    """Write ``model.pt2`` by :func:`export_model`, and of an operator the functions of its trunk as ``basis.pt2``.

    Returns an empty text, or why the surrogate cannot be exported; the weights then are in ``weights.pt``. Not
    collective; for one rank.
    """
    reason = export_model(surrogate, surrogate.arguments, folder / "model.pt2")
    if isinstance(surrogate, OperatorSurrogate) and not reason:
        export_basis(surrogate, folder / "basis.pt2")
    if reason:
        save_weights(surrogate, folder)
    return reason


def save_weights(surrogate: Surrogate, folder: Path) -> None:
    """Write ``weights.pt``, the ``state_dict`` of the surrogate. Not collective; for one rank."""
    torch.save(copy.deepcopy(surrogate).to(HOST).state_dict(), folder / "weights.pt")


def export_basis(surrogate: OperatorSurrogate, path: Path) -> str:
    """As :func:`export_model`, the functions that an operator combines: locations (K, d) -> (K, p)."""
    return export_model(BasisFunctions(surrogate), {"locations": surrogate.arguments["locations"]}, path)


def export_model(module: nn.Module, arguments: Mapping[str, int], path: Path) -> str:
    """Write a module as a file of `torch.export`, or of ONNX where its name ends on .onnx.

    Of a surrogate, coordinates (N, d) float64 -> outputs (N, k), the lifting included; of an operator, inputs (N, s),
    locations (K, d) -> (N, K).

    ``arguments``: name -> columns. Returns "", or why `torch.export` refuses the module, which a user may have made.
    Not collective; for one rank.
    """
    module = copy.deepcopy(module).requires_grad_(False).to(HOST)
    # Numbers of rows that differ, so that the export does not take them for one.
    example = tuple(torch.zeros(2 + k, columns, dtype=torch.float64) for k, columns in enumerate(arguments.values()))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.export").setLevel(logging.ERROR)
            shape = {name: {0: torch.export.Dim(f"rows_of_{name}", min=1)} for name in arguments}
            if path.suffix == ".onnx":
                _export_onnx(module, example, shape, path)
            else:
                torch.export.save(torch.export.export(module, example, dynamic_shapes=shape), path)
        return ""
    except Exception as error:  # torch.export raises many kinds for code that it cannot trace
        path.unlink(missing_ok=True)
        reason = str(error).strip().splitlines()
        return f"{type(error).__name__}: {reason[0] if reason else ''}"


def _export_onnx(module: nn.Module, example: tuple[Tensor, ...], shape: dict[str, Any], path: Path) -> None:
    """Inputs have the names of the arguments, the output is called ``values``; double precision as the module."""
    if importlib.util.find_spec("onnxscript") is None:
        raise PescitrainError("ONNX needs the package onnxscript: pip install pescitrain[onnx]")
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of operators of packages that are not here
    try:
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            dynamic_shapes=shape,
            input_names=list(shape),
            output_names=["values"],
            verbose=False,
        )
        assert program is not None
        program.save(path)
    finally:
        log.setLevel(level)


class _Loaded(nn.Module):
    """``columns``: of each argument."""

    def __init__(self, module: nn.Module, columns: list[int]) -> None:
        super().__init__()
        self.module, self.columns = module, columns

    def forward(self, *arguments: ArrayLike | Tensor) -> Tensor:
        tensors = [torch.as_tensor(argument, dtype=torch.float64) for argument in arguments]
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if [shape[1:] for shape in shapes] != [(count,) for count in self.columns]:
            wanted = ", ".join(f"(N, {count})" for count in self.columns)
            raise PescitrainError(f"a loaded model takes {wanted}; it was given {', '.join(map(str, shapes))}")
        return self.module(*tensors)


def load_model(path: str | Path | BinaryIO) -> nn.Module:
    """The trained model of a run folder, or of its ``model.pt2``: (N, d) -> (N, k), or of an operator: (N, s), (K, d)
    -> (N, K). It takes arrays and tensors, and gives tensors of double precision. Not collective.

    Raises
    ------
    PescitrainError     there is no model, or the file is broken; from the model, other shapes
    """
    if isinstance(path, str | Path):
        path = Path(path)
        if path.is_dir():
            path = path / "model.pt2"
        if not path.is_file():
            raise PescitrainError(f"load_model: there is no file {path}; give a run folder or its model.pt2")
    try:
        program = torch.export.load(path)
        examples, _ = program.example_inputs or ((), {})
        return _Loaded(program.module(), [example.shape[1] for example in examples])
    except Exception as error:  # zip, pickle and schema errors of a broken file
        raise PescitrainError(
            f"load_model: {path} cannot be read ({type(error).__name__}): is it a model.pt2?"
        ) from error
