# SPDX-License-Identifier: Apache-2.0
"""`.eval_results/*.yaml`: scores on public benchmarks, as the Hub shows them on the page of a model.

https://huggingface.co/docs/hub/eval-results. The older `model-index` in the card holds the benchmarks of the run's own rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from scratch_gpt.runs.folders import atomic_write


FILE = Path(".eval_results") / "scratch-gpt.yaml"

# The measure that a layout is known by: of a choice or a last word, else of a written answer.
MEASURES = ("acc", "strict_match")


def entries(results: Mapping[str, Mapping[str, Any]]) -> list[EvalResultEntry]:
    """One entry for each benchmark of `read_results` that was read from the Hub; copies in files are no such benchmark."""
    found = []
    for result in results.values():
        for name, noted in result.get("settings", {}).get("benchmarks", {}).items():
            measure = next((each for each in MEASURES if f"{name}/{each}" in result["metrics"]), None)
            if noted.get("revision") is None or measure is None:
                continue
            metric = result["metrics"][f"{name}/{measure}"]
            low, high = metric["ci95"]
            subsets = noted["subset"] if isinstance(noted["subset"], list) else [noted["subset"]]
            facts = [
                f"{measure} as a share of 1, 95% interval {low:.4g} to {high:.4g}",
                f"{noted['num_fewshot']} examples before each question",
                f"split {noted['split']}",
                *[f"subset {', '.join(subsets)}"] * (None not in subsets),
                *[f"the first {result['settings'].get('limit')} items only"]
                * bool(result["settings"].get("limit")),
                f"chat template {'on' if noted['apply_chat_template'] else 'off'}",
            ]
            found.append(
                EvalResultEntry(
                    dataset_id=noted["path"],
                    task_id=noted["layout"],
                    value=round(metric["value"], 6),
                    dataset_revision=noted["revision"],
                    notes="; ".join(facts),
                )
            )
    return found


def write_eval_results(folder: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the entries into `folder`; without any, a file of earlier results is removed."""
    path, found = folder / FILE, entries(results)
    if not found:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(eval_result_entries_to_yaml(found), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
