"""Which derivatives of the fields travel through a network, and how they combine.

A *component* is the value ``()``, a partial derivative given by its sorted axes (``(0, 0)`` is the second derivative
along axis 0), or a :class:`Laplacian`, which carries the sum of second derivatives as one number per neuron instead
of one per axis (the "collapsed" or "forward" Laplacian).

Two tables follow from a set of components, both of them exact at any order:

* ``compositions``: the chain rule (Faà di Bruno) for ``σ(z)``;
* ``products``: the product rule (Leibniz) for ``a·z``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

Partial = tuple[int, ...]


@dataclass(frozen=True)
class Laplacian:
    """The sum of the second derivatives along ``axes``."""

    axes: tuple[int, ...]


Component = Partial | Laplacian
VALUE: Partial = ()


def order(component: Component) -> int:
    """Order of differentiation: 0 for the value."""
    return 2 if isinstance(component, Laplacian) else len(component)


def _sort_key(component: Component) -> tuple[int, bool, Partial]:
    if isinstance(component, Laplacian):
        return 2, True, component.axes
    return len(component), False, component


def _closure(component: Component) -> Iterator[Component]:
    yield VALUE
    yield component
    if isinstance(component, Laplacian):
        yield from ((axis,) for axis in component.axes)
        return
    for size in range(1, len(component)):
        yield from combinations(component, size)


def _set_partitions(items: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for size in range(len(rest) + 1):
        for chosen in combinations(range(len(rest)), size):
            block = (first, *(rest[i] for i in chosen))
            remaining = tuple(rest[i] for i in range(len(rest)) if i not in chosen)
            for tail in _set_partitions(remaining):
                yield [block, *tail]


@dataclass(frozen=True)
class Composition:
    """One term ``coefficient · σ^(order)(z) · Π z[factors]`` of a component of ``σ(z)``."""

    coefficient: float
    order: int
    factors: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """One term ``coefficient · a[left] · z[right]`` of a component of ``a·z``."""

    coefficient: float
    left: int
    right: int


@dataclass(frozen=True)
class Components:
    """A set of components closed under the chain rule, in a fixed order with the value first.

    Build it with :meth:`closed`; two sets with the same members are equal and hash alike.
    """

    members: tuple[Component, ...]

    @classmethod
    def closed(cls, wanted: Iterable[Component]) -> Components:
        """The smallest set that holds ``wanted`` and everything that their chain rule needs."""
        members = {VALUE: None} | {part: None for component in wanted for part in _closure(component)}
        return cls(tuple(sorted(members, key=_sort_key)))

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Component]:
        return iter(self.members)

    @cached_property
    def index(self) -> dict[Component, int]:
        """Position of each member along the leading axis of a jet tensor."""
        return {component: i for i, component in enumerate(self.members)}

    @cached_property
    def max_order(self) -> int:
        """Highest order of differentiation in the set."""
        return max(order(component) for component in self.members)

    @cached_property
    def compositions(self) -> tuple[tuple[Composition, ...], ...]:
        """For every member after the value, the chain-rule terms of order two and more.

        The term of order one is always ``σ'(z) · z[member]`` and is left out: callers apply it to all members at once.
        """
        return tuple(self._compose(component) for component in self.members)

    def _compose(self, component: Component) -> tuple[Composition, ...]:
        if isinstance(component, Laplacian):
            return tuple(Composition(1.0, 2, (self.index[(axis,)],) * 2) for axis in component.axes)
        counts: Counter[tuple[int, ...]] = Counter()
        for partition in _set_partitions(tuple(range(len(component)))):
            if len(partition) > 1:
                blocks = (tuple(sorted(component[i] for i in block)) for block in partition)
                counts[tuple(sorted(self.index[block] for block in blocks))] += 1
        return tuple(Composition(float(count), len(factors), factors) for factors, count in counts.items())

    @cached_property
    def products(self) -> tuple[tuple[Product, ...], ...]:
        """For every member, the product-rule terms; the left and the right factor use this same set."""
        return tuple(self._multiply(component) for component in self.members)

    def _multiply(self, component: Component) -> tuple[Product, ...]:
        whole = self.index[component]
        if isinstance(component, Laplacian):
            mixed = (Product(2.0, self.index[(axis,)], self.index[(axis,)]) for axis in component.axes)
            return (Product(1.0, 0, whole), Product(1.0, whole, 0), *mixed)
        counts: Counter[tuple[int, int]] = Counter()
        positions = range(len(component))
        for size in range(len(component) + 1):
            for chosen in combinations(positions, size):
                left = tuple(component[i] for i in chosen)
                right = tuple(component[i] for i in positions if i not in chosen)
                counts[self.index[left], self.index[right]] += 1
        return tuple(Product(float(count), left, right) for (left, right), count in counts.items())
