# SPDX-License-Identifier: Apache-2.0
"""Numbers with intervals, trivial models to compare with, the scores for `evaluate`.

Imports `data` and what is below it.
"""
