# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in other formats: the stock classes of transformers, GGUF.

Imports `inference` and what is below it.
"""
