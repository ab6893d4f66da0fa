# SPDX-License-Identifier: Apache-2.0
"""Pretraining: model, objective, optimizer, loss, resuming.

Imports no other part of `training`.
"""
