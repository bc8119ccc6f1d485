"""Placeholders such as "{prompt}" in JSON templates.

A text that is one placeholder becomes the value itself, a number for example. A key whose value is
a placeholder without a value (None), or an object of such keys alone, is left out. Values are not
searched again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PLACEHOLDER = re.compile(
    r"\{(prompt|seed|negative_prompt|model|steps|guidance|size|width|height)\}"
)


def placeholders_in(template: Any) -> set[str]:
    """The names of the placeholders in a JSON template."""
    if isinstance(template, dict):
        return {name for part in template.values() for name in placeholders_in(part)}
    if isinstance(template, list | tuple):
        return {name for part in template for name in placeholders_in(part)}
    return set(PLACEHOLDER.findall(template)) if isinstance(template, str) else set()


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with `values` for their placeholders."""
    if isinstance(template, dict):
        parts = {key: (part, filled(part, values)) for key, part in template.items()}
        return {
            key: new
            for key, (old, new) in parts.items()
            if new is not None and new != {} or not old
        }
    if isinstance(template, list):
        return [filled(part, values) for part in template]
    if not isinstance(template, str):
        return template
    if whole := PLACEHOLDER.fullmatch(template):
        return values.get(whole[1], template)
    return PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), template)


def merged(extra: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Both, object by object; where both have a value, that of `body` counts."""
    both = {
        key: merged(extra[key], part)
        if isinstance(part, Mapping) and isinstance(extra.get(key), Mapping)
        else part
        for key, part in body.items()
    }
    return {**extra, **both}
