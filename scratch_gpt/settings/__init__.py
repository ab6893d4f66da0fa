# SPDX-License-Identifier: Apache-2.0
"""Settings of a run, parsed and checked, and what this machine can compute with.

Imports `errors` alone.
"""
