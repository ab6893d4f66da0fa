# SPDX-License-Identifier: Apache-2.0
"""From files to batches: sources, then packed shards or rows, then collators.

Imports `primer` and what is below it.
"""
