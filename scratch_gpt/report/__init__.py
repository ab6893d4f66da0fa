# SPDX-License-Identifier: Apache-2.0
"""What a run came to, for eyes: one page that opens from disk without a network, and pictures.

Imports `publishing`, `evaluation` and what is below them.
"""

from scratch_gpt.report.overview import draw_report
from scratch_gpt.report.page import write_report


__all__ = ["draw_report", "write_report"]
