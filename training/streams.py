"""Where every random number of a run comes from.

A generator is never kept from one iteration to the next: it is derived from (run seed, name of the stream, iteration).
Whoever knows the iteration's number therefore knows the state of every generator, and a resumed run draws the numbers
that an uninterrupted one would have drawn.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch

Stream = Literal[
    "weights", "tasks", "starts", "act", "update", "evaluation tasks", "evaluation starts", "evaluation act"
]
STREAMS: tuple[Stream, ...] = get_args(Stream)


def stream_seed(seed: int, stream: Stream, iteration: int = 0) -> int:
    """A 63-bit seed, different for each (seed, stream, iteration)."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(STREAMS.index(stream), iteration))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def numpy_generator(seed: int, stream: Stream, iteration: int = 0) -> np.random.Generator:
    return np.random.default_rng(stream_seed(seed, stream, iteration))


def torch_generator(seed: int, stream: Stream, iteration: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, stream, iteration))


def describe(seed: int, iteration: int) -> dict[str, Any]:
    """What a checkpoint's manifest says of the generators: the rule, and the seeds of the iteration that comes next."""
    return {
        "rule": "SeedSequence(entropy=seed, spawn_key=(index of stream, iteration)).generate_state(1, uint64)[0] >> 1",
        "streams": list(STREAMS),
        "seed": seed,
        "next_iteration": iteration,
        "next_seeds": {stream: stream_seed(seed, stream, iteration) for stream in STREAMS},
    }
