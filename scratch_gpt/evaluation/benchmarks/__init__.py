# SPDX-License-Identifier: Apache-2.0
"""The benchmarks, one module each; `eval/` holds their scripts.

Imports `evaluation.metrics` and `evaluation.harness`.
"""
