# SPDX-License-Identifier: Apache-2.0
"""Fill the model card of a trained folder from its run, and upload the folder where a repository is named.

    accelerate launch eval/publish.py --config eval/configs/publish.yaml --model runs/demo/aligned
    scratch-gpt publish runs/demo/aligned --repo user/name

Writes README.md in the model's folder.
"""

from accelerate import PartialState

from scratch_gpt.publishing import PublishArguments, upload, write_card
from scratch_gpt.training.arguments import run_stage


def main(arguments: PublishArguments) -> None:
    """Write the card, then upload; one process does, whatever the launcher started."""
    if not PartialState().is_main_process:
        return
    folder = str(arguments.model)
    print(f"wrote {write_card(folder, arguments.license, arguments.hub_model_id)}")
    if arguments.hub_model_id:
        print(f"uploaded to {upload(folder, arguments.hub_model_id, private=arguments.hub_private_repo)}")


if __name__ == "__main__":
    run_stage(main, PublishArguments)
