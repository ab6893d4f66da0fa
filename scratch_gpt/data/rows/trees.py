# SPDX-License-Identifier: Apache-2.0
"""Conversations that are trees: of OpenAssistant's tables, put together; of ChatGPT's export, the branch that was shown."""

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


def shown_branch(nodes: dict[str, Any], leaf: Any) -> list[dict[str, Any]]:
    """The messages of ChatGPT's export from the first one to the node `leaf`, of those that are said to the other side.

    Left out are calls of its own tools, their results, and what is no text.
    """
    nodes, messages = dict(nodes), []
    while node := nodes.pop(leaf, None):
        message = node.get("message") or {}
        role = (message.get("author") or {}).get("role")
        parts = (message.get("content") or {}).get("parts")
        if parts and any(parts) and role != "tool" and message.get("recipient", "all") == "all":
            messages.append({"role": role, "content": parts})
        leaf = node.get("parent")
    return messages[::-1]
