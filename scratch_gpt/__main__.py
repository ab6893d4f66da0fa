# SPDX-License-Identifier: Apache-2.0
"""`python -m scratch_gpt` is `scratch-gpt`."""

from scratch_gpt.cli import main


if __name__ == "__main__":
    main()
