"""Agents that adapt: one algorithm, one file. The protocol they follow is in `agents.agent`."""

import os

# Threads of an update that wait for each other must sleep, not spin: where another process wants the processors,
# spinning made an iteration of MAML four times slower on two threads than on one. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
