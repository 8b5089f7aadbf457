"""Check what was read from JSON against the types that it is declared to have, and against a checksum."""

import json
import types
import zlib
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from xner.errors import quoted


def check_type(value: object, kind: Any, name: str) -> None:  # noqa: ANN401 - any type
    """Check that a value of JSON has a type, with all that it contains.

    Args:
        value: The value.
        kind: ``Any``, a class, a union of types, a literal, a list, a dictionary or a
            ``TypedDict``.
        name: What the value is called in the error.

    Raises:
        TypeError: If it has another one; the text names the first part that is wrong.

    >>> check_type({"seeds": [1, "2"]}, dict[str, list[int]], "it")
    Traceback (most recent call last):
    TypeError: it['seeds'][1] is '2', not of type int
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_typeddict(kind) and isinstance(value, dict):
        for key in sorted(kind.__required_keys__):
            if key not in value:
                raise TypeError(f"{name} has no {key!r}")
        for key, part in get_type_hints(kind).items():
            if key in value:
                check_type(value[key], part, f"{name}[{key!r}]")
    elif origin is list and isinstance(value, list):
        for place, part in enumerate(value):
            check_type(part, inner[0], f"{name}[{place}]")
    elif origin is dict and isinstance(value, dict):
        for key, part in value.items():
            check_type(part, inner[1], f"{name}[{quoted(key)}]")
    elif origin is Literal:
        if value not in inner:
            raise TypeError(f"{name} is {quoted(value)}, not one of {', '.join(map(repr, inner))}")
    elif origin in (Union, types.UnionType):
        if not any(_has_type(value, each) for each in inner):
            raise TypeError(f"{name} is {quoted(value)}, not of type {kind}")
    elif kind is not Any and type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"{name} is {quoted(value)}, not of type {getattr(kind, '__name__', kind)}")


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the CRC-32 of a JSON object to it, by which ``load_checked`` notices a damaged digit."""
    return {**content, "checksum": _checksum(content)}


def load_checked(text: str | bytes, kind: Any) -> Any:  # noqa: ANN401 - any type
    """Parse a JSON object that ``with_checksum`` completed, and check its type.

    Args:
        text: The object.
        kind: Its type, see ``check_type``.

    Returns:
        The object without its checksum.

    Raises:
        ValueError: If it is no JSON, or its checksum does not match.
        TypeError: If it has another type.
        RecursionError: If it is nested too deeply.
    """
    content = json.loads(text)
    checksum = content.pop("checksum", None) if isinstance(content, dict) else None
    check_type(content, kind, "it")
    if checksum != _checksum(content):
        raise ValueError("its checksum does not match")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _has_type(value: object, kind: Any) -> bool:  # noqa: ANN401 - any type
    try:
        check_type(value, kind, "it")
    except TypeError:
        return False
    return True
