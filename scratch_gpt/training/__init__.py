# SPDX-License-Identifier: Apache-2.0
"""What the recipes in `train/` are made of.

Imports `publishing`, `evaluation` and what is below them.
"""
