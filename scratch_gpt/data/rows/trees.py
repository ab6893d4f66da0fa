# SPDX-License-Identifier: Apache-2.0
"""Messages of trees, one a row, as OpenAssistant's tables have them, put together to the trees that they are."""

from typing import Any


TREE_COLUMNS = frozenset({"message_id", "parent_id", "message_tree_id", "text", "role"})


PlacedRow = tuple[str, dict[str, Any]]


def grow_trees(messages: list[PlacedRow]) -> tuple[list[PlacedRow], list[str]]:
    """The place of each tree's first message with the tree, as a row of OpenAssistant's files of trees.

    Also the places of messages whose parents are not among the rows: they and their replies are in no tree. Of several
    rows with one id the last one counts.
    """
    messages = list({row["message_id"]: (place, row) for place, row in messages}.values())
    nodes = {row["message_id"]: {**row, "replies": []} for _, row in messages}
    trees, orphans = [], []
    for place, row in messages:
        node = nodes[row["message_id"]]
        if not row["parent_id"]:  # null, or empty in a .csv file
            trees.append((place, {"message_tree_id": row["message_tree_id"], "prompt": node}))
        elif row["parent_id"] in nodes:
            nodes[row["parent_id"]]["replies"].append(node)
        else:
            orphans.append(place)
    return trees, orphans
