"""A signal ends what may be given up, whatever becomes of the exception on its way."""

from __future__ import annotations

import os
import signal

import pytest

from training.signals import Interrupted, StopSignals


def stopped_in_a_callback() -> None:
    """What a library in C does to an exception that one of its callbacks raises."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted:
        raise RuntimeError("cannot compute the bounding box") from None


def test_a_library_that_makes_another_error_of_it_is_stopped_all_the_same() -> None:
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), StopSignals() as signals, signals.interruptible():
        stopped_in_a_callback()


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="mine"), StopSignals() as signals, signals.interruptible():
        raise RuntimeError("mine")


def test_a_signal_waits_for_a_block_that_may_be_given_up() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(Interrupted), signals.interruptible():
            pytest.fail("the block was entered")
