"""Examples in docstrings as code, wherever they stand: for mkdocstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Put a fence around each `>>>` and what follows it, up to an empty line."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of whatever was read."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"(?m)^(?=>>>)((?:.+\n?)+)", r"```pycon\n\1\n```\n", obj.docstring.value
            )
