# SPDX-License-Identifier: Apache-2.0
"""The scores as `evaluate.Metric` modules: `evaluate.load("scratch_gpt/evaluation/metrics/NAME.py")`, offline.

`evaluate` reads the imports of such a file line by line: write one import a line.
"""
