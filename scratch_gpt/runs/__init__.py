# SPDX-License-Identifier: Apache-2.0
"""A stage's folder: written atomically, locks, log.jsonl, checkpoints, results, provenance.

Imports `settings`.
"""
