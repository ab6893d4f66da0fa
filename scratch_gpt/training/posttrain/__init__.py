# SPDX-License-Identifier: Apache-2.0
"""What the stages on top of TRL's trainers share: sft, reward, dpo, kto, distill, seq2seq.

Imports no other part of `training`.
"""
