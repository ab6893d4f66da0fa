# SPDX-License-Identifier: Apache-2.0
"""Sources of text and rows: declared in YAML, read as streams of documents.

Imports nothing else of `data`.
"""
