# SPDX-License-Identifier: Apache-2.0
"""A trained model for people and programs: chat in the terminal, a web page, a Hub Space, an OpenAI-compatible server.

Imports `inference` and what is below it.
"""
