# SPDX-License-Identifier: Apache-2.0
"""`scratch-gpt new`: from a user's text and a time budget to configs, trained models and a report.

Imports `pipeline`, `report`, `training`, `publishing`, `evaluation`, `inference`, `data`, `runs`, `settings`.
"""
