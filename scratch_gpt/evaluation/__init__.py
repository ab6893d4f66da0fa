# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: tasks, the models' answers to them, scores with intervals and chance levels."""
