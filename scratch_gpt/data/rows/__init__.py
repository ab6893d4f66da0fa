# SPDX-License-Identifier: Apache-2.0
"""Rows of conversations, pairs and questions, and their splits.

Imports `data.sources`.
"""
