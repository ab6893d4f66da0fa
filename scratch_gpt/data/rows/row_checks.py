# SPDX-License-Identifier: Apache-2.0
"""Rows that stand twice, and rows that contradict each other: reported, since both teach what nobody meant."""

import json
from collections.abc import Hashable, Sequence
from typing import Any


Row = dict[str, Any]


def report_repeats(rows: Sequence[Row]) -> list[str]:
    """One line for each source and finding, with the places of the first case.

    A conversation contradicts another one if it differs in its last answer alone; a pair, if it prefers what the other
    one rejects. A row that a weight uses twice is one row.
    """
    first: dict[tuple[str, Hashable], Row] = {}
    findings: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in {row["place"]: row for row in rows}.values():
        same, against, finding = _keys(row)
        seen = first.setdefault((row["source"], same), row)
        if seen is not row:
            findings.setdefault((row["source"], "duplicate rows"), []).append((row["place"], seen["place"]))
            continue
        other = first.setdefault((row["source"], against), row)
        if other is not row:
            findings.setdefault((row["source"], finding), []).append((row["place"], other["place"]))
    return [
        f"{source}: {finding}: {len(places):,}, such as {places[0][0]} and {places[0][1]}"
        for (source, finding), places in findings.items()
    ]


def _keys(row: Row) -> tuple[str, str, str]:
    """What is equal in equal rows, what is equal in rows that contradict each other, and what to call those."""
    if "messages" in row:
        return (
            json.dumps(row["messages"]),
            json.dumps(row["messages"][:-1]),
            "same question, another answer",
        )
    sides = [json.dumps([row["prompt"], row[side]]) for side in ("chosen", "rejected")]
    return " > ".join(sides), " = ".join(sorted(sides)), "prefers what another pair rejects"
