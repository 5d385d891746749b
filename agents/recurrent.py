"""A gated recurrent unit whose whole sequence is one node of the graph: for updates over long trials on processors.

    r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

This is `torch.nn.GRU` with one layer (arXiv 1406.1078, with r after the product), under the same names of weights. Only
what needs h goes step by step, in small operations in place. The products with the inputs, the slopes of the gates and
the gradients of the weights are taken for all steps at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SHARED_STATES = 2**15
"""Numbers in the states of one step from which the step's operations are large enough to share among threads."""


def tanh(inputs: Tensor) -> Tensor:
    """tanh as 2 sigmoid(2 x) - 1: in float32 within 2e-7, and several times faster than torch's own on processors."""
    return 2.0 * torch.sigmoid(2.0 * inputs) - 1.0


class GRU(nn.Module):
    """One layer. The weights, rows in the order r, z, n, are zero until whoever builds it fills them."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size))

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The states [L, N, H] after each of the inputs [L, N, I], beginning with `hidden` [N, H].

        Gradients are those of `torch.nn.GRU`. With create_graph, to differentiate them again, they raise RuntimeError.
        """
        states: Tensor = _Sequence.apply(
            inputs, hidden, self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0
        )
        return states

    def step(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The state [N, H] after the inputs [N, I] of one step."""
        size = hidden.shape[1]
        from_input = torch.addmm(self.bias_ih_l0, inputs, self.weight_ih_l0.t())
        from_hidden = torch.addmm(self.bias_hh_l0, hidden, self.weight_hh_l0.t())
        r, z = torch.sigmoid(from_input[:, : 2 * size] + from_hidden[:, : 2 * size]).chunk(2, dim=1)
        n = tanh(torch.addcmul(from_input[:, 2 * size :], r, from_hidden[:, 2 * size :]))
        return torch.lerp(n, hidden, z)


class _Sequence(torch.autograd.Function):
    """inputs [L, N, I], hidden [N, H] and the weights -> states [L, N, H]."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
        (steps, trials, _), size = inputs.shape, hidden.shape[1]
        # With what goes into n doubled beforehand, n = 2 sigmoid(sum) - 1.
        doubling = torch.cat([weight_hh.new_ones(2 * size), weight_hh.new_full((size,), 2.0)])
        recurrent = (weight_hh.t() * doubling).contiguous()
        sums = torch.addmm(bias_ih * doubling, inputs.flatten(0, 1), weight_ih.t() * doubling)
        gates = sums.view(steps, trials, 3 * size)
        candidates = gates[..., 2 * size :].clone()
        gates[..., 2 * size :] = 0.0
        gates += bias_hh * doubling
        states = torch.cat([hidden.unsqueeze(0), hidden.new_empty(steps, trials, size)])
        minus_one = inputs.new_tensor(-1.0)
        at = states.unbind()
        # After its turn in the loop, `gates` holds r, z and 2 (W_hn h + b_hn).
        views = (gates, gates[..., : 2 * size], *gates.chunk(3, dim=-1), candidates)
        with _threads_for(trials * size):
            for t, (gate, opening, r, z, product, n) in enumerate(zip(*(v.unbind() for v in views), strict=True)):
                gate.addmm_(at[t], recurrent)
                opening.sigmoid_()
                n.addcmul_(r, product).sigmoid_()
                torch.add(minus_one, n, alpha=2.0, out=n)
                torch.lerp(n, at[t], z, out=at[t + 1])
        ctx.save_for_backward(inputs, weight_ih, weight_hh, gates, candidates, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the gradients of this GRU cannot be differentiated: ask for them without create_graph")
        inputs, weight_ih, weight_hh, gates, candidates, states = ctx.saved_tensors
        steps, trials, size = candidates.shape
        (r, z, product), before = gates.chunk(3, dim=-1), states[:-1]
        # What a small change of each gate's sum does to the state that follows.
        slope_of_n = torch.ops.aten.tanh_backward(1.0 - z, candidates)
        slopes = gates.new_empty(steps, trials, 3, size)
        slopes[:, :, 0] = torch.ops.aten.sigmoid_backward(slope_of_n * product, r).mul_(0.5)
        slopes[:, :, 1] = torch.ops.aten.sigmoid_backward(before - candidates, z)
        torch.mul(slope_of_n, r, out=slopes[:, :, 2])

        # Backwards in time: the slopes become gradients of the sums, `total` the gradient of each state.
        total = torch.cat([torch.zeros_like(gradient[:1]), gradient])
        by_step, of_sums = total.unbind(), slopes.view(steps, trials, 3 * size)
        views = (total[1:].unsqueeze(2), slopes, of_sums, z)
        with _threads_for(trials * size):
            for t, (spread, slope, sums, kept) in enumerate(
                zip(*(reversed(v.unbind()) for v in views), strict=True), start=1
            ):
                slope.mul_(spread)
                by_step[-t - 1].addcmul_(by_step[-t], kept).addmm_(sums, weight_hh)

        rows = of_sums.flatten(0, 1)
        of_weight_hh, of_bias_hh = rows.t() @ before.flatten(0, 1), rows.sum(0)
        torch.mul(total[1:], slope_of_n, out=slopes[:, :, 2])  # of the sum in n itself, no longer of r's factor
        of_weight_ih, of_bias_ih = rows.t() @ inputs.flatten(0, 1), rows.sum(0)
        return (rows @ weight_ih).view_as(inputs), total[0], of_weight_ih, of_weight_hh, of_bias_ih, of_bias_hh


@contextmanager
def _threads_for(numbers: int) -> Iterator[None]:
    """One thread where the operations of a step are so small that waking a second one costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if numbers >= SHARED_STATES else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
