"""The JSON Schemas of what implementers write: answers of a command, and files of fixtures."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from cycles_conformance.provisioners.common import one_line


def fault(file: str, definition: str, document: Any) -> str | None:
    """What is wrong with a document, with its place (``/tenants/0/id: …``); None if it is valid.

    ``file`` is a schema of the ``format`` folder; ``definition`` one of its ``$defs``, or empty for
    the schema itself.
    """
    error = best_match(_validator(file, definition).iter_errors(document))
    if error is None:
        return None
    path = [str(token) for token in error.absolute_path]
    place = "".join(f"/{token}" for token in path) or "the document"
    # The message would repeat the value, and a report is no place for a secret.
    hidden = "secret" in path or "secrets" in path
    what = "not a text of visible ASCII characters" if hidden else one_line(error.message)
    return f"{place}: {what}"


@functools.cache
def _validator(file: str, definition: str) -> Draft202012Validator:
    folder = importlib.resources.files("cycles_conformance.format")
    schema = json.loads((folder / file).read_text(encoding="utf-8"))
    if definition:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    return Draft202012Validator(schema)
