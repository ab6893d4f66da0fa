# SPDX-License-Identifier: Apache-2.0
"""What a benchmark asks and what an answer scores; rewards and tuning data share it.

Imports `errors` alone.
"""
