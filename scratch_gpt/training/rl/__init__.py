# SPDX-License-Identifier: Apache-2.0
"""Reinforcement: rewards, trainers, what goes wrong.

Imports `training.posttrain`.
"""
