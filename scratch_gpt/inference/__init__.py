# SPDX-License-Identifier: Apache-2.0
"""Running a model: loading, answers, likelihood, chat format, reward scores.

Imports `data` and what is below it.
"""
