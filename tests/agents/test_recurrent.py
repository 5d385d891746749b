"""The recurrent layer against PyTorch's own, against finite differences, and against itself one step at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from agents.recurrent import GRU, SHARED_STATES, tanh


def layers(inputs: int, size: int, dtype: torch.dtype, seed: int = 0) -> tuple[GRU, nn.GRU]:
    """One layer with random weights, twice: the one under test and PyTorch's, with the same names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    ours = GRU(inputs, size).to(dtype)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=size**-0.5, generator=generator)
    with torch.random.fork_rng(devices=[]):
        theirs = nn.GRU(inputs, size).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def sequence(steps: int, trials: int, inputs: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, first hidden state and a direction in the space of the states."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((steps, trials, inputs), (trials, size), (steps, trials, size))
    first, hidden, direction = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return first.requires_grad_(), hidden.tanh().requires_grad_(), direction


@pytest.mark.parametrize(("steps", "trials", "inputs", "size"), [(1, 1, 1, 1), (7, 3, 5, 4), (40, 6, 9, 16)])
def test_states_and_gradients_are_those_of_pytorchs_layer(steps: int, trials: int, inputs: int, size: int) -> None:
    ours, theirs = layers(inputs, size, torch.float64)
    x, hidden, direction = sequence(steps, trials, inputs, size, torch.float64)
    states, (expected, _) = ours(x, hidden), theirs(x, hidden.unsqueeze(0))
    assert torch.allclose(states, expected, rtol=0, atol=1e-13)
    gradients = torch.autograd.grad((states * direction).sum(), [x, hidden, *ours.parameters()])
    wanted = torch.autograd.grad((expected * direction).sum(), [x, hidden, *theirs.parameters()])
    for gradient, reference in zip(gradients, wanted, strict=True):
        assert torch.allclose(gradient, reference, rtol=1e-10, atol=1e-11)


def test_gradients_agree_with_finite_differences() -> None:
    ours, _ = layers(2, 2, torch.float64)
    x, hidden, _ = sequence(3, 2, 2, 2, torch.float64)
    names = [name for name, _ in ours.named_parameters()]

    def states(x: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, hidden))

    assert torch.autograd.gradcheck(states, (x, hidden, *ours.parameters()))


def test_long_trials_in_single_precision_stay_with_pytorchs_layer() -> None:
    ours, theirs = layers(12, 32, torch.float32)
    x, hidden, direction = sequence(400, 10, 12, 32, torch.float32)
    states, (expected, _) = ours(x, hidden), theirs(x, hidden.unsqueeze(0))
    assert torch.allclose(states, expected, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad((states * direction).sum(), list(ours.parameters()))
    wanted = torch.autograd.grad((expected * direction).sum(), list(theirs.parameters()))
    for gradient, reference in zip(gradients, wanted, strict=True):
        assert (gradient - reference).norm() < 1e-5 * reference.norm()


def test_step_by_step_is_the_sequence() -> None:
    ours, _ = layers(5, 8, torch.float64)
    x, hidden, _ = sequence(6, 3, 5, 8, torch.float64)
    states, following = ours(x, hidden), hidden
    for at, state in zip(x, states, strict=True):
        following = ours.step(at, following)
        assert torch.allclose(following, state, rtol=0, atol=1e-14)


def test_many_trials_at_once_are_the_same_trials() -> None:
    ours, _ = layers(2, 4, torch.float64)
    trials = SHARED_STATES // 4 + 1
    x, hidden, direction = sequence(3, trials, 2, 4, torch.float64)
    half = trials // 2
    both, first = ours(x, hidden), ours(x[:, :half], hidden[:half])
    assert torch.allclose(both[:, :half], first, rtol=0, atol=1e-14)
    whole = torch.autograd.grad((both * direction).sum(), [x])[0][:, :half]
    part = torch.autograd.grad((first * direction[:, :half]).sum(), [x])[0][:, :half]
    assert torch.allclose(whole, part, rtol=0, atol=1e-13)


def test_a_graph_may_be_walked_twice_but_not_differentiated_twice() -> None:
    ours, _ = layers(5, 8, torch.float32)
    x, hidden, direction = sequence(6, 3, 5, 8, torch.float32)
    objective = (ours(x, hidden) * direction).sum()
    once = torch.autograd.grad(objective, list(ours.parameters()), retain_graph=True)
    again = torch.autograd.grad(objective, list(ours.parameters()), retain_graph=True)
    assert all(torch.equal(one, two) for one, two in zip(once, again, strict=True))
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        torch.autograd.grad(objective, [x], create_graph=True)


def test_the_number_of_threads_is_left_as_it_was() -> None:
    ours, _ = layers(5, 8, torch.float32)
    x, hidden, direction = sequence(6, 3, 5, 8, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        (ours(x, hidden) * direction).sum().backward()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_tanh_is_tanh() -> None:
    x = torch.linspace(-30, 30, 10001, dtype=torch.float64)
    assert torch.allclose(tanh(x), torch.tanh(x), rtol=0, atol=1e-15)
    assert (tanh(x.float()).double() - torch.tanh(x.float().double())).abs().max() < 3e-7
