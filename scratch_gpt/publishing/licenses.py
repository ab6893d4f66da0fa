# SPDX-License-Identifier: Apache-2.0
"""The licenses that the Hub has an identifier for."""

from scratch_gpt.errors import UserError, did_you_mean


# https://huggingface.co/docs/hub/repositories-licenses, in August 2026.
_IDENTIFIERS = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc
lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa
odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense
wtfpl zlib
"""
LICENSES = frozenset(_IDENTIFIERS.split())


def check_license(identifier: str, name: str | None) -> None:
    """Raise UserError unless the Hub knows the identifier of the license; `other` needs a name, and it alone has one."""
    if identifier not in LICENSES:
        cure = did_you_mean(
            identifier, LICENSES, ": they are listed at hf.co/docs/hub/repositories-licenses."
        )
        message = f"license {identifier!r} is not an identifier of the Hub{cure} For any other license set other, with license_name"
        raise UserError("wrong_value", message, setting="license", value=identifier)
    if identifier == "other" and not name:
        message = "license other needs its name: give license_name"
        raise UserError("setting_missing", message, setting="license_name")
    if identifier != "other" and name:
        message = f"license_name {name!r} needs license other, got {identifier}"
        raise UserError("settings_conflict", message, setting="license_name", other="license")
