"""Describe the endpoints under OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1)."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        bytes: Largest body.
        texts: Largest number of texts of a request.
        characters: Largest text; a batch cannot be interrupted, so this bounds its time.
        requests: Largest number of requests that are read, wait or are tagged at once.
        seconds: Longest time of a request.
    """

    bytes: int = 256 * 1024
    texts: int = 256
    characters: int = 10_000
    requests: int = 32
    seconds: float = 30


def describe_api(types: list[str], limits: Limits) -> dict[str, Any]:
    """Describe the endpoints of an application.

    Args:
        types: Entity types of the model.
        limits: Limits of requests.

    Returns:
        The description, for ``json.dumps``.
    """
    refused = {
        "400": "The body is not JSON in UTF-8, or a field is missing, unknown or of the wrong type.",
        "413": f"The body has more than {limits.bytes:,} bytes, `texts` more than {limits.texts} items, "
        f"or a text more than {limits.characters:,} characters.",
        "415": "The content type is not application/json.",
        "500": "The texts could not be tagged; the server's log has the reason.",
    }
    busy = f"{limits.requests} requests are in progress, or this one took more than {limits.seconds:g} seconds."
    text = {"type": "string", "maxLength": limits.characters, "examples": ["Alan Mathison Turing was born in London."]}
    entity = {
        "type": {"type": "string", "enum": types, "description": "Entity type."},
        "text": {"type": "string", "description": "The text from `start` to `end`."},
        "start": {"type": "integer", "minimum": 0, "description": "Index of its first character (Unicode code point)."},
        "end": {"type": "integer", "minimum": 1, "description": "Index after its last character."},
        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "Lowest probability of its words."},
    }
    schemas = {
        "Request": {
            "oneOf": [
                _object({"texts": {"type": "array", "items": text, "maxItems": limits.texts}}),
                _object({"text": text}),
            ]
        },
        "Response": _object({"results": {"type": "array", "items": _ref("Result")}}),
        "Result": _object(
            {
                "text": {"type": "string", "description": "The text; half a surrogate is replaced by a question mark."},
                "entities": {"type": "array", "items": _ref("Entity")},
            }
        ),
        "Entity": _object(entity),
        "Error": _object({"error": {"type": "string", "description": "The reason."}}),
        "Health": _object({"status": {"const": "ok"}, "types": {"type": "array", "items": {"enum": types}}}),
    }
    marked = {"schema": {"type": "string", "description": "A paragraph per text, with marked entities."}}
    tag = {
        "operationId": "tag",
        "summary": "Find the entities of texts",
        "requestBody": {"required": True, "content": _json("Request")},
        "responses": {
            "200": {
                "description": "A result per text, in their order; as HTML if the header Accept has text/html.",
                "content": {**_json("Response"), "text/html": marked},
            },
            **{code: {"description": reason, "content": _json("Error")} for code, reason in refused.items()},
            "503": {
                "description": busy,
                "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
                "content": _json("Error"),
            },
        },
    }
    health = {
        "operationId": "health",
        "summary": "Say that requests are answered, and which entity types there are",
        "responses": {"200": {"description": "It is ready.", "content": _json("Health")}},
    }
    return {
        "openapi": "3.1.1",
        "info": {"title": "xner", "summary": "Named-entity recognition", "version": version("xner")},
        "paths": {"/tag": {"post": tag}, "/health": {"get": health}},
        "components": {"schemas": schemas},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(schema)}}


def _ref(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}
