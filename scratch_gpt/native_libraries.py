# SPDX-License-Identifier: Apache-2.0
"""Settings of the C libraries below torch; to be imported before torch, which reads the first two when it is loaded.

OpenMP: how long an idle thread spins before it sleeps. By default a thread that waits for the others of its process spins
300,000 times (libgomp, Linux) or for 200 ms (Intel's and LLVM's). While another program needs the processor, each such wait
takes a scheduler's time slice. A step of the demo with two threads on two cores (a Xeon, medians) takes 0.23 s alone and
0.89 s beside one busy process with 20,000 spins, 0.25 and 0.52 s with 2,000, 0.34 and 0.49 s with 100.

glibc: how much freed memory it keeps. By default it returns a few megabytes to the system at once, and the same tensors of
the next step fault in page by page: a tenth of a step of the demo.

A value of the user's is kept.
"""

import ctypes
import os
import platform


os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms

# Numbers of `mallopt` (malloc.h), and bytes. Larger blocks than 32 MiB are returned whole, so a peak is not kept forever.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
    _libc = ctypes.CDLL(None)
    _libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
    _libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
