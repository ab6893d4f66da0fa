# SPDX-License-Identifier: Apache-2.0
"""What a run is told, parsed and checked, and what this machine is good for.

Imports `errors` alone.
"""
