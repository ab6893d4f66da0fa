# SPDX-License-Identifier: Apache-2.0
"""Pretraining: model, objective, optimizer, loss, loop.

Imports no other part of `training`.
"""
