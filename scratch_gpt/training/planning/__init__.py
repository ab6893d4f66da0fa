# SPDX-License-Identifier: Apache-2.0
"""The plan of a pretraining run: every setting decided; memory, time and cost before it begins.

Imports `training.pretrain`.
"""
