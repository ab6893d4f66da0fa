# SPDX-License-Identifier: Apache-2.0
"""Text and rows, from their files to the batches."""
