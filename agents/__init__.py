"""Agents that adapt: one algorithm, one file. The protocol they follow is in `agents.agent`."""

import ctypes
import os
import platform

# Threads of an update that wait for each other must sleep, not spin: where another process wants the processors,
# spinning made an iteration of MAML four times slower on two threads than on one. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Freed memory stays with the process, in one pool: otherwise the C library gives every large array back to the kernel
# and gets it anew, zeroed page by page, which took a third of an update.
if platform.libc_ver()[0] == "glibc":
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)  # older versions refuse more than 32 MiB
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)
