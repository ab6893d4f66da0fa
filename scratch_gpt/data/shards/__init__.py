# SPDX-License-Identifier: Apache-2.0
"""Documents to packed blocks of tokens on disk.

Imports `data.sources`.
"""
