"""What a meta-update of MAML changes: the shared weights, and a step size for every adapted tensor and inner step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from agents.optimiser_state import load_tensors
from agents.policy_derivatives import Layout


class MetaParameters:
    """theta [P], and step sizes [S, adapted tensors] of S inner steps.

    Where they are learned, all of it is also one flat vector [D]. With `logarithmic`, that vector holds the logarithms
    of the step sizes: they stay positive, and a change is relative to what they are.
    """

    def __init__(
        self,
        layout: Layout,
        theta: Tensor,
        adapted: list[str],
        inner_steps: int,
        inner_lr: float,
        *,
        learned: bool,
        logarithmic: bool,
    ) -> None:
        """adapted: names of the tensors that inner steps change. inner_lr: every step size to begin with."""
        self.layout, self.theta, self.adapted = layout, theta, adapted
        self._learned, self._logarithmic = learned, logarithmic
        self._columns = [index for index, name in enumerate(layout.shapes) if name in adapted]
        first = torch.full((inner_steps, len(adapted)), inner_lr)
        self._sizes = first.log() if logarithmic else first

    @property
    def step_sizes(self) -> Tensor:
        """[S, adapted tensors]."""
        return self._sizes.exp() if self._logarithmic else self._sizes

    @property
    def spread(self) -> Tensor:
        """[S, P]: the step size of every weight, zero for what does not adapt."""
        return self._spread(self.step_sizes)

    def _spread(self, sizes: Tensor) -> Tensor:
        every = torch.zeros(len(sizes), len(self.layout.shapes), dtype=sizes.dtype)
        every[:, self._columns] = sizes
        return self.layout.spread(every)

    def tensors(self) -> list[Tensor]:
        """What an optimiser moves: theta and, if they are learned, the step sizes or their logarithms."""
        return [self.theta, self._sizes] if self._learned else [self.theta]

    def vector(self) -> Tensor:
        """[D]: all that is learned."""
        return torch.cat([tensor.flatten() for tensor in self.tensors()])

    def derivative(self, by_theta: Tensor, by_sizes: Tensor) -> Tensor:
        """[D]: a derivative by the vector, from those by theta [P] and by every weight's step size [S, P]."""
        if not self._learned:
            return by_theta
        by_tensor = self.layout.gather(by_sizes)[:, self._columns]
        return torch.cat([by_theta, (by_tensor * self.step_sizes if self._logarithmic else by_tensor).flatten()])

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector [D] in the shapes of `tensors`."""
        parts = vector.split([tensor.numel() for tensor in self.tensors()])
        return [part.view_as(tensor) for part, tensor in zip(parts, self.tensors(), strict=True)]

    def direction(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """How theta [P] and every weight's step size [S, P] move as the vector moves along [D]."""
        theta, *sizes = self.split(vector)
        if not sizes:
            return theta, torch.zeros(len(self._sizes), len(theta))
        return theta, self._spread(sizes[0] * self.step_sizes if self._logarithmic else sizes[0])

    def at(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """theta [P] and every weight's step size [S, P] where the vector is [D]; no step size is negative."""
        theta, *sizes = self.split(vector)
        if not sizes:
            return theta, self.spread
        return theta, self._spread(sizes[0].exp() if self._logarithmic else sizes[0].clamp(min=0.0))

    def assign(self, vector: Tensor) -> None:
        """Move to the vector [D]."""
        for tensor, part in zip(self.tensors(), self.split(vector), strict=True):
            tensor.copy_(part)
        if not self._logarithmic:
            self._sizes.clamp_(min=0.0)

    def named(self) -> dict[str, Tensor]:
        """Views of the weights and of the step sizes or their logarithms, by name."""
        weights = {f"meta/policy/{name}": value for name, value in self.layout.split(self.theta).items()}
        kind = "log_inner_lr" if self._logarithmic else "inner_lr"
        sizes = {
            f"meta/{kind}/{step}/{name}": size
            for step, row in enumerate(self._sizes)
            for name, size in zip(self.adapted, row, strict=True)
        }
        return weights | sizes

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.named().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises KeyError or ValueError where names or shapes do not fit."""
        load_tensors({name.removeprefix("meta/"): value for name, value in self.named().items()}, "meta", state)
