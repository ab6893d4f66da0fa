# SPDX-License-Identifier: Apache-2.0
"""Fill the model card of a trained folder from its run, and upload the folder where a repository is named.

    accelerate launch eval/publish.py --config eval/configs/publish.yaml --model runs/demo/aligned
    scratch-gpt publish runs/demo/aligned --hub_model_id user/name --dry_run

Writes README.md in the model's folder; with hub_model_id uploads it, and loads it from there as a check.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

from accelerate import PartialState

from scratch_gpt.publishing import PublishArguments, run_publish
from scratch_gpt.settings.parsing import run_stage


def main(arguments: PublishArguments) -> None:
    """One process writes and uploads, whatever the launcher started."""
    if PartialState().is_main_process:
        run_publish(arguments)


if __name__ == "__main__":
    run_stage(main, PublishArguments)
