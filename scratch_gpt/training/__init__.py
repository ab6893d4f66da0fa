# SPDX-License-Identifier: Apache-2.0
"""What the stages of `train/` are made of."""
