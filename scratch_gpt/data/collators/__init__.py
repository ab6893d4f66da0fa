# SPDX-License-Identifier: Apache-2.0
"""Packed blocks to the batches of an objective.

Imports nothing else of `data`.
"""
