"""One line of the table: a figure, what it should be, and the verdict that follows from the two."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Relation = Literal["=", "<=", ">=", ">"]


@dataclass(frozen=True)
class Check:
    """name: what was examined. meaning: why it matters, in a line. detail: figures beside it that decide nothing.

    The check passes where `measured` is equal to, at most, at least or above `expected`, give or take `tolerance`; a
    figure that is not a number never does.
    """

    name: str
    meaning: str
    relation: Relation
    expected: float
    measured: float
    tolerance: float = 0.0
    detail: str = ""

    @property
    def passed(self) -> bool:
        if self.relation == "=":
            return abs(self.measured - self.expected) <= self.tolerance
        if self.relation == "<=":
            return self.measured <= self.expected + self.tolerance
        if self.relation == ">=":
            return self.measured >= self.expected - self.tolerance
        return self.measured > self.expected - self.tolerance

    @property
    def expected_text(self) -> str:
        """`<= 1e-06`, `0.318`, `6.66 ± 0.0005`."""
        sign = "" if self.relation == "=" else f"{self.relation} "
        margin = f" ± {self.tolerance:.1g}" if self.tolerance else ""
        return f"{sign}{self.expected:.5g}{margin}"

    @property
    def measured_text(self) -> str:
        return f"{self.measured:.5g}" if abs(self.measured) >= 1e-3 or self.measured == 0 else f"{self.measured:.1e}"

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "passed": self.passed}


def close(name: str, meaning: str, error: float, bound: float, detail: str = "") -> Check:
    """Passes where an error, a distance from what should be, is at most `bound`."""
    return Check(name, meaning, "<=", bound, error, detail=detail)


def holds(name: str, meaning: str, exceptions: int, detail: str = "") -> Check:
    """Passes where there is no exception to what should always hold."""
    return Check(name, meaning, "=", 0, exceptions, detail=detail)


def relative_error(value: Tensor, truth: Tensor) -> float:
    """|value - truth| / |truth|, both taken as vectors."""
    return float(torch.linalg.vector_norm(value - truth) / torch.linalg.vector_norm(truth))
