# SPDX-License-Identifier: Apache-2.0
"""How long an idle OpenMP thread spins before it sleeps; to be imported before torch, which reads it when it is loaded.

By default a thread that waits for the others of its process spins 300,000 times (libgomp, Linux) or for 200 ms (Intel's and
LLVM's). While another program needs the processor, each such wait takes a scheduler's time slice. A step of the demo with two
threads on two cores (a Xeon, medians) takes 0.23 s alone and 0.89 s beside one busy process with 20,000 spins, 0.25 and 0.52 s
with 2,000, 0.34 and 0.49 s with 100. A value of the user's is kept.
"""

import os


os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms
