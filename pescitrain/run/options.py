"""Every option of pescitrain's own, in one typed table.

The table gives the settings that the code reads, the validation, our part of ``-help`` and ``docs/options.md``. PETSc's
own options are not here: they keep their names and meaning.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from petsc4py import PETSc

from pescitrain.errors import OptionError
from pescitrain.geometry import SAMPLING_KINDS
from pescitrain.networks import ACTIVATIONS

T = TypeVar("T")


def option(
    default: T,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    above: float | None = None,
    unit: str = "",
    note: str = "",
) -> T:
    """A field of a settings class that is an option; ``note`` describes a default that is computed."""
    metadata = {"help": help, "choices": choices, "minimum": minimum, "above": above, "unit": unit, "note": note}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ProblemOptions:
    """What is solved, and where."""

    problem: str = option("poisson", "name of a shipped problem, or path/to/file.py:Name")
    mesh: str | None = option(None, "mesh file: .msh, .vtu, .xdmf and whatever meshio reads", note="the problem's own")
    ref_file: str | None = option(None, "file with the reference solution as point data", note="the problem's own")
    bc_enforce: str = option("soft", "how Dirichlet and initial conditions are met", choices=("soft", "hard"))
    problem_continuation: tuple[str, ...] = option(
        (), "parameters of the problem that go from these values to their own, as mu=0.2", note="none"
    )
    problem_continuation_steps: int = option(8, "geometric steps between them", minimum=1)
    problem_continuation_interval: int = option(10, "iterations between steps", minimum=1)
    seed: int = option(0, "of the network's initial values and of random points", minimum=0)


@dataclass(frozen=True)
class NetworkOptions:
    """The network."""

    net_type: str = option(
        "mlp",
        "kind of network; subdomain: many perceptrons, each in its part of the domain, joined by a partition of unity",
        choices=("mlp", "resnet", "subdomain"),
    )
    net_width: int = option(20, "neurons of a hidden layer", minimum=1)
    net_depth: int = option(4, "hidden layers", minimum=1)
    net_subdomains: tuple[str, ...] = option(
        ("4",),
        "boxes of the subdomain networks: 4 along each coordinate, as 4x2, or several levels that are added, the "
        "coarsest first, as 1,4x4; parts of a mesh: how many, as 16 or 1,16",
        note="4",
    )
    net_partition: str = option(
        "grid",
        "where subdomain networks are: in the boxes of a grid around the domain, or in parts of the mesh with equally "
        "many cells",
        choices=("grid", "mesh"),
    )
    net_overlap: float = option(
        0.5,
        "how far a subdomain reaches over its box, or the box around its part of a mesh, on each side, in widths of "
        "the box",
        minimum=0,
    )
    net_overlap_cells: int | None = option(
        None, "how far a subdomain reaches over its part of a mesh, in widths of cells", minimum=1, note="-net_overlap"
    )
    net_start: str = option(
        "auto",
        "values of the output layers to begin with: random, or those of a least-squares solution, the hidden layers "
        "being as they are; auto: least_squares for -net_type subdomain",
        choices=("auto", "random", "least_squares"),
    )
    net_train: str = option(
        "all",
        "layers that are trained; output: the hidden layers stay as they are drawn (random features)",
        choices=("all", "output"),
    )
    net_basis: int | None = option(
        None, "outputs of the branch and of the trunk of an operator", minimum=1, note="net_width"
    )
    net_trunk: str = option(
        "network",
        "trunk of an operator: a network, or pod: the -net_basis leading modes of the outputs, which are not trained",
        choices=("network", "pod"),
    )
    net_products: int = option(
        0,
        "products of a linear map and a network, of different inputs, in the branch of an operator that is linear in "
        "all inputs but the first few; 0: one network of all inputs",
        minimum=0,
    )
    net_activation: str = option("tanh", "activation function", choices=tuple(ACTIVATIONS))
    net_adaptive_slope: bool = option(False, "one trainable slope for each hidden layer")
    net_fourier: int = option(0, "random Fourier features added to the coordinates", minimum=0)
    net_fourier_scale: float = option(1.0, "standard deviation of their frequencies, box scaled to [-1, 1]", above=0)
    net_periodic_modes: int = option(1, "harmonics of coordinates that the problem declares periodic", minimum=1)
    net_final_time: float = option(1.0, "T of a resnet: its time step is T / (depth - 1)", above=0)


@dataclass(frozen=True)
class SampleOptions:
    """The points."""

    sample_type: str = option(
        "auto", "auto is quadrature on meshes, hammersley in boxes", choices=("auto", *SAMPLING_KINDS)
    )
    sample_points: int = option(4000, "interior points; not used by quadrature", minimum=1)
    sample_boundary_points: int = option(400, "points on each boundary term; not used by quadrature", minimum=1)
    sample_order: int = option(2, "polynomial order of quadrature in cells", minimum=0)
    sample_boundary_order: int = option(1, "polynomial order of quadrature on facets", minimum=0)
    sample_adapt: str = option(
        "none",
        "points that move: rad, interior ones drawn anew where the residual is large; rar, interior ones added there; "
        "fresh, all drawn anew, uniformly",
        choices=("none", "rad", "rar", "fresh"),
    )
    sample_adapt_interval: int = option(20, "iterations between draws, and between weights of samples", minimum=1)
    sample_adapt_power: float = option(1.0, "k of rad: drawn with density abs(r)^k / mean(abs(r)^k) + c", minimum=0)
    sample_adapt_uniform: float = option(1.0, "c of rad, the part that stays uniform", minimum=0)
    sample_adapt_add: int = option(100, "points that rar adds at a time to each equation", minimum=1)
    sample_adapt_limit: int | None = option(
        None, "interior points of each equation at which rar stops", minimum=1, note="twice what it starts with"
    )
    sample_time_windows: int = option(
        1, "the equations hold in a part of the time that grows to all of it in this many windows", minimum=1
    )
    sample_time_window_interval: int = option(50, "iterations between windows", minimum=1)
    sample_batch: int = option(
        0,
        "samples of all terms together that an iteration sees, another batch each time, for adam, adagrad, mladagrad, "
        "rmtr, sgd and soap; history.csv has the objectives of batches, summary.json that of all samples; 0: all",
        minimum=0,
    )
    sample_chunk: int | None = option(
        None, "samples that are evaluated at a time; choose by the cache", minimum=1, note="1000, on a GPU 16384"
    )


@dataclass(frozen=True)
class LossOptions:
    """The weights in the objective."""

    loss_term_weights: tuple[str, ...] = option(
        (), "weights of terms by their names in history.csv, as dirichlet_boundary=100,initial_t_min=10", note="its own"
    )
    loss_sample_weights: str = option(
        "none",
        "weights of the samples of equations: residual, large where the residual was large; causal, small at late "
        "times while early ones are not solved",
        choices=("none", "residual", "causal"),
    )
    loss_residual_decay: float = option(0.9, "g of residual: w becomes g w + e abs(r) / max(abs(r))", minimum=0)
    loss_residual_rate: float = option(0.1, "e of residual", minimum=0)
    loss_causal_slices: int = option(32, "equal parts of the time", minimum=1)
    loss_causal_tolerances: tuple[str, ...] = option(
        ("0.01", "0.1", "1", "10", "100"),
        "values of e in w = exp(-e sum of earlier losses), each until all w are above 0.99",
        note="0.01,0.1,1,10,100",
    )


@dataclass(frozen=True)
class DataOptions:
    """Snapshots from a file, for -problem deeponet and operators of your own."""

    data_file: str | None = option(
        None,
        "snapshots: .npz, .h5, Vecs in a PETSc binary file, .vtu or .xdmf; a pattern for several files, as 'out/*.vtu'",
        note="none",
    )
    data_parameters: str | None = option(
        None, "text or CSV with a row of inputs for each snapshot or each file", note="the file's own"
    )
    data_coordinates: str | None = option(
        None, "locations as text, CSV or .npy, or as a Vec in a PETSc binary file", note="the file's own"
    )
    data_field: str | None = option(
        None, "which of several fields, as p or velocity:1; of Vecs with several components its number", note="the only"
    )
    data_split: tuple[str, ...] = option(
        ("0.8", "0.1", "0.1"),
        "fractions of the simulations to train on, to measure the error on, and to test on at the end, drawn by -seed",
        note="0.8,0.1,0.1",
    )
    data_recover: bool = option(False, "use the good snapshots of a file that is cut off or holds NaN")
    data_patience: int = option(
        0,
        "measurements of the error (-out_error_interval) without a fall after which a stage stops; it ends with its "
        "best parameters; 0: no such test",
        minimum=0,
    )


@dataclass(frozen=True)
class PartitionOptions:
    """The decomposition of the parameters into blocks, and who owns them."""

    part_type: str = option(
        "layer",
        "blocks of equal numbers of layers, of balanced parameter counts, or of layers of one network each, which is "
        "called branchtrunk, too; a network in a subdomain is one layer, and its overlap are its neighbours",
        choices=("layer", "balanced", "network", "branchtrunk", "subdomain"),
    )
    part_blocks: int | None = option(None, "number of blocks", minimum=1, note="one for each layer")
    part_overlap: int = option(0, "layers added on both sides of each block", minimum=0)
    part_owner: str = option("blocks", "a rank owns whole layers, or an even share", choices=("blocks", "even"))


@dataclass(frozen=True)
class RunOptions:
    """The run and what it writes."""

    stages: tuple[str, ...] = option((), "prefixes of solves that follow each other, as warm,main")
    hier_nested: bool = option(
        False, "train the coarsest of the -hier_levels networks first, then each finer one from where it ended"
    )
    device: str = option(
        "cpu",
        "where networks are evaluated; cuda: the ranks of a machine take its GPUs in turn",
        choices=("cpu", "cuda"),
    )
    torch_threads: int = option(1, "threads of torch on each rank", minimum=1)
    check_derivatives: bool = option(False, "test gradient, Jacobian and adjoint at the starting point, then stop")
    out_dir: str | None = option(None, "run folder", note="runs/<problem>-<time>")
    out_interval: int = option(10, "iterations between lines of the log", minimum=1)
    out_error_interval: int = option(10, "iterations between evaluations of the error", minimum=1)
    out_model: bool = option(True, "write model.pt2, which takes seconds; else the weights alone, in weights.pt")
    out_pictures: bool = option(True, "write convergence.png and solution.png")
    ckpt_interval: int = option(100, "iterations between checkpoints", minimum=1)
    ckpt_restart: str | None = option(None, "checkpoint folder to continue from", note="a new start")


@dataclass(frozen=True)
class StageOptions:
    """Read under the prefix of a stage first, then without it."""

    solver: str = option(
        "auto", "tao, or snes; auto: the one of which a type is given, else tao", choices=("auto", "tao", "snes")
    )
    net_correction: bool = option(
        False, "train a new network that is added to what the stages before have reached; not in the first stage"
    )
    max_time: float = option(0.0, "of solving; 0: no limit", minimum=0, unit="s")
    gn_mat: str = option(
        "auto",
        "entries of the Gauss-Newton matrix that the preconditioner reads; auto: sparse, all that are not zero, for "
        "networks in subdomains, dense for lu, cholesky and mg, else blocks; none, with mg: products with J on all "
        "levels but the coarsest",
        choices=("auto", "blocks", "dense", "sparse", "none"),
    )
    gn_lag: int = option(
        0, "linearizations (Newton) or iterations between refreshes", minimum=0, note="1, quasi-Newton 10"
    )
    gn_damping: float | None = option(
        None, "damping of the Gauss-Newton operator in nls and newtonls, relative likewise", minimum=0, note="-gn_shift"
    )
    gn_rows: int = option(
        0, "residual rows, drawn at random for each refresh, that the preconditioner is made from; 0: all", minimum=0
    )
    gn_precision: str = option(
        "double",
        "of the products that its entries are sums of; single is safe with a -gn_shift far above 1e-7",
        choices=("double", "single"),
    )
    hier_type: str = option(
        "both",
        "what is merged by twos from level to level, an odd last one staying as it is: layers (steps of a resnet), "
        "neurons, or both; for -pc_type mg, -hier_nested, rmtr, mladagrad and fas",
        choices=("depth", "width", "both"),
    )
    hier_levels: int = option(2, "networks of the hierarchy, the trained one among them", minimum=1)
    hier_cycle_levels: int = option(
        0, "networks that a stage of -hier_nested cycles over, itself the finest; 0: all that are coarser", minimum=0
    )
    hier_prolongation: str = option(
        "constant",
        "of the steps of a deeper network in -hier_nested: both copies of one, or linear between neighbours",
        choices=("constant", "linear"),
    )
    gn_shift: float = option(3e-2, "damping of that matrix, relative to the mean of its diagonal", minimum=0)


@dataclass(frozen=True)
class Settings(ProblemOptions, NetworkOptions, SampleOptions, LossOptions, DataOptions, PartitionOptions, RunOptions):
    """All options that hold for the whole run."""


TOPICS = (
    ProblemOptions,
    NetworkOptions,
    SampleOptions,
    LossOptions,
    DataOptions,
    PartitionOptions,
    RunOptions,
    StageOptions,
)


def table() -> dict[str, dataclasses.Field[Any]]:
    """Name of each option (without dash) -> its field."""
    return {field.name: field for topic in TOPICS for field in dataclasses.fields(topic)}


def read(kind: Callable[..., T], prefix: str = "", defaults: dict[str, Any] | None = None, bare: bool = True) -> T:
    """A settings object from the options database: the prefixed name, then the bare one, then the default.

    ``defaults`` (of a problem) come before those of the table. ``bare``: false where bare names are another's.

    Raises
    ------
    OptionError     a value of the wrong type, out of range, or not among the choices
    """
    types = get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        default = (defaults or {}).get(field.name, field.default)
        values[field.name] = _read_one(field, types[field.name], prefix, default, bare)
    return kind(**values)


def _read_one(field: dataclasses.Field[Any], annotation: Any, prefix: str, default: Any, bare: bool) -> Any:
    options = PETSc.Options()
    names = (prefix + field.name, field.name) if bare else (prefix + field.name,)
    for name in dict.fromkeys(names):
        if options.hasName(name):
            return _parse(f"-{name}", options.getAll().get(name) or "", annotation, field)
    return default


def _parse(name: str, text: str, annotation: Any, field: dataclasses.Field[Any]) -> Any:
    choices, minimum, above = (field.metadata[name] for name in ("choices", "minimum", "above"))
    kind = next((k for k in (bool, int, float, tuple) if k.__name__ in str(annotation)), str)
    if kind is bool:
        if text.lower() in ("", "1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise OptionError(f"{name} {text}: it is a switch, give true or false")
    if not text:
        raise OptionError(f"{name} needs a value ({field.metadata['help']})")
    if kind is tuple:
        parts = tuple(part.strip() for part in text.split(","))
        if "" in parts:
            raise OptionError(f"{name} {text}: there is a comma with nothing beside it")
        return parts
    if kind is str:
        if choices and text not in choices:
            raise OptionError(f"{name} {text}: choose from {', '.join(choices)}")
        return text
    try:
        value = kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise OptionError(f"{name} {text}: give {wanted} ({field.metadata['help']})") from None
    if not math.isfinite(value):
        raise OptionError(f"{name} {text}: give a finite number")
    if minimum is not None and value < minimum:
        raise OptionError(f"{name} {text}: it must be at least {minimum:g}")
    if above is not None and value <= above:
        raise OptionError(f"{name} {text}: it must be above {above:g}")
    return value


def describe(topic: type) -> list[tuple[str, str, str]]:
    """(name, default, help) of each option of a topic, as ``-help`` and the reference page print them."""
    rows = []
    for field in dataclasses.fields(topic):
        default = (
            field.metadata["note"] or str(field.default).lower()
            if field.default is not None
            else field.metadata["note"]
        )
        if isinstance(field.default, tuple):
            default = field.metadata["note"] or "one stage without a prefix"
        text = field.metadata["help"]
        if field.metadata["choices"]:
            text += f" (one of {', '.join(field.metadata['choices'])})"
        if field.metadata["unit"]:
            text += f" [{field.metadata['unit']}]"
        rows.append((field.name, default, text))
    return rows


def help_text() -> str:
    """Our part of ``-help``."""
    lines = []
    for topic in TOPICS:
        lines += ["-" * 40, f"pescitrain: {topic.__doc__}"]
        lines += [f"  -{name}: <default {default}> {text}" for name, default, text in describe(topic)]
    return "\n".join(lines)


def reference_page() -> str:
    """docs/options.md."""
    lines = [
        "# Options of pescitrain",
        "",
        "Generated from the table in `pescitrain/run/options.py` by `python -m pescitrain.run.options`; PETSc's own",
        "options (`-tao_*`, `-snes_*`, `-ksp_*`, `-pc_*`, …) keep their names and meaning.",
    ]
    for topic in TOPICS:
        lines += ["", f"## {topic.__doc__}", "", "| option | default | what it is |", "|---|---|---|"]
        lines += [f"| `-{name}` | {default} | {text} |" for name, default, text in describe(topic)]
    lines += ["", "A problem's own parameters are options too: `nu` of `burgers` is `-problem_nu`.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference_page(), end="")
