# SPDX-License-Identifier: Apache-2.0
"""How long an idle OpenMP thread spins before it sleeps; to be imported before torch, which reads it when it is loaded.

By default a thread that waits for the others of its process spins 300,000 times (libgomp, Linux) or for 200 ms (Intel's and
LLVM's). While another program needs the processor, each such wait takes a scheduler's time slice: forward and backward pass
of the demo with two threads on two cores took 4.58 s beside two busy processes, and 0.43 s with 20,000 spins; alone 0.18 s
with either. A value of the user's is kept.
"""

import os


os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms
