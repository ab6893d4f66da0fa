# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: metrics with intervals, then the benchmarks, then comparisons.

Imports `inference` and what is below it.
"""
