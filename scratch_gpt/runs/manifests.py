# SPDX-License-Identifier: Apache-2.0
"""The manifests of several shards folders as one."""

import hashlib
from collections.abc import Mapping
from typing import Any


SUMS = ("blocks", "tokens", "bytes", "documents", "padding_tokens")


def combine_manifests(manifests: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What folders hold together, their blocks one after the other.

    Args:
        manifests: by the path of their folder.

    Returns:
        The only manifest, if there is one; else sums, the sources of all (a name that two folders have gets its path
        before it), a hash of all content, and `content_hashes` by path.
    """
    first, *others = manifests.values()
    if not others:
        return first
    sources: list[dict[str, Any]] = []
    offset = 0
    names = [source["name"] for manifest in manifests.values() for source in manifest["sources"]]
    for path, manifest in manifests.items():
        for source in manifest["sources"]:
            name = source["name"]
            moved = {"name": f"{path}/{name}" if names.count(name) > 1 else name}
            if "block_range" in source:
                moved["block_range"] = [number + offset for number in source["block_range"]]
            sources.append(source | moved)
        offset += manifest["blocks"]
    hashes = {path: manifest["content_hash"] for path, manifest in manifests.items()}
    return {
        **first,
        **{name: sum(manifest.get(name, 0) for manifest in manifests.values()) for name in SUMS},
        "sources": sources,
        "content_hash": hashlib.sha256("".join(hashes.values()).encode()).hexdigest(),
        "content_hashes": hashes,
    }
