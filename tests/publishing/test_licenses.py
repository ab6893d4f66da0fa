# SPDX-License-Identifier: Apache-2.0
"""A license is one that the Hub knows, or has a name."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from scratch_gpt.errors import UserError
from scratch_gpt.publishing import PublishArguments, write_card


@pytest.mark.parametrize(
    ("license", "name", "message"),
    [
        ("Apache 2.0", None, "did you mean apache-2.0"),
        ("MIT", None, "did you mean mit"),
        ("my own rules", None, "repositories-licenses"),
        ("other", None, "license_name"),
        ("mit", "my own rules", "'my own rules'"),
    ],
)
def test_what_the_hub_does_not_know_is_refused(
    chat_folder: Path, license: str, name: str | None, message: str
) -> None:
    """In the settings and where the card is written; no card is left."""
    with pytest.raises(UserError, match=message):
        PublishArguments(str(chat_folder), license=license, license_name=name)
    with pytest.raises(UserError, match=message):
        write_card(chat_folder, license, license_name=name)
    assert not (chat_folder / "README.md").exists()


def test_another_license_has_a_name_in_the_card(chat_folder: Path) -> None:
    """As the Hub asks for; also where the card tells where things come from."""
    card = ModelCard.load(write_card(chat_folder, "other", license_name="my own rules"))
    assert (card.data.license, card.data.license_name) == ("other", "my own rules")
    assert "- license: my own rules" in card.text
