"""The OpenAPI document, a page that reads it, and the answer to unknown addresses."""

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from rollout_console.api import openapi
from rollout_console.api.problems import problem_http
from rollout_console.core.errors import problem
from rollout_console.rollouts.plan_json_schema import plan_json_schema


@cache
def schema_document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same for everybody until the next start."""
    # Imported for what it registers: spectacular finds schemes and hook by it.
    assert openapi.TokenScheme.name
    generator: Any = SchemaGenerator
    document: dict[str, Any] = generator().get_schema(request=None, public=True)
    return document


def schema(request: HttpRequest) -> HttpResponse:
    """The document names no data, so it asks for no token."""
    return JsonResponse(schema_document(), content_type="application/vnd.oai.openapi+json")


def plan_schema(request: HttpRequest) -> HttpResponse:
    """The JSON Schema of a plan; editors fetch it, so it asks for no token either."""
    response = JsonResponse(plan_json_schema(), content_type="application/schema+json")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


def docs_page(request: HttpRequest) -> HttpResponse:
    """The same document as a plain page: no script, nothing from elsewhere."""
    document = schema_document()
    groups: dict[str, list[dict[str, Any]]] = {}
    for address, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "address": address,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "bodies": _bodies(operation),
                    "answers": [
                        {"status": status, "text": answer.get("description", ""), **_shape(answer)}
                        for status, answer in operation.get("responses", {}).items()
                    ],
                }
            )
    components = [
        {"name": name, "fields": _fields(schema)}
        for name, schema in document.get("components", {}).get("schemas", {}).items()
    ]
    return render(request, "api/docs.html", {"groups": groups, "components": components})


def nothing_here(request: HttpRequest) -> HttpResponse:
    body = problem(
        code="not-found",
        title="Not found",
        status=404,
        detail="There is nothing at this address. What there is stands in /api/docs/.",
        instance=request.path,
    )
    return problem_http(body)


def _bodies(operation: dict[str, Any]) -> list[dict[str, str]]:
    content = operation.get("requestBody", {}).get("content", {})
    return [
        {"type": kind, "shape": _name(held.get("schema", {}))} for kind, held in content.items()
    ]


def _shape(answer: dict[str, Any]) -> dict[str, str]:
    for held in answer.get("content", {}).values():
        return {"shape": _name(held.get("schema", {}))}
    return {"shape": ""}


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = set(schema.get("required", []))
    return [
        {"name": name, "type": _name(held), "required": name in required}
        for name, held in schema.get("properties", {}).items()
    ]


def _name(schema: dict[str, Any]) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("allOf", "oneOf", "anyOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_name(each) for each in schema[key]))
    if schema.get("type") == "array":
        return f"list of {_name(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    return str(schema.get("type", "anything"))
