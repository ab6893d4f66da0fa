# SPDX-License-Identifier: Apache-2.0
"""A stage's folder: written whole or not at all, locks, log.jsonl, checkpoints, results, provenance.

Imports `settings`.
"""
