"""The OpenAPI document: what spectacular cannot see of the views, and the bare routes."""

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_BEARER: Final[list[dict[str, list[str]]]] = [{"bearer": []}]
_TEXT: Final = {"type": "string"}

_REFUSALS: Final = {
    "400": "The input cannot be read or does not fit.",
    "401": "No token, or one that is unknown, expired or revoked.",
    "403": "Not the caller's to do; says who can.",
    "404": "Not there, or not the caller's to read.",
    "405": "Not this method.",
    "409": "The state does not admit it; says why.",
    "413": "Too large.",
    "415": "This kind of body is not read here.",
    "422": "The idempotency key stands for another command.",
    "429": "More than is taken now; `Retry-After` says when.",
    "503": "Something passing is in the way; `Retry-After` says when.",
    "500": "A bug of ours, with the id it has in the log.",
}
_SUBJECTS: Final = {
    "plans": "plans and releases",
    "plan-schema": "plans and releases",
    "plan-changes": "plans and releases",
    "workflows": "plans and releases",
    "rollouts": "rollouts",
    "alerts": "alerts",
    "incidents": "alerts",
    "trips": "alerts",
    "expansion-requests": "expansions",
    "signals": "signals",
    "price-sheet": "signals",
    "traces": "signals",
    "exposure": "exposure",
}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "rollout_console.api.access.TokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "rollout_console.api.access.SessionLogin"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def bare_routes_add(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Spectacular's postprocessing hook: refusals on every operation, and the bare routes."""
    del generator, request, public
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas.setdefault("Problem", _PROBLEM_SCHEMA)
    schemas.update(_BARE_SCHEMAS)
    result["components"].setdefault("securitySchemes", {})["apiKey"] = {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }
    for address, methods in result["paths"].items():
        subject = address.split("/")[3] if address.count("/") >= 3 else ""
        for method, operation in methods.items():
            operation["tags"] = [_SUBJECTS.get(subject, "reading")]
            _refusals_add(operation, method=method)
    for address, methods in _bare_paths().items():
        result["paths"].setdefault(address, {}).update(methods)
    return result


def _refusals_add(operation: dict[str, Any], *, method: str) -> None:
    told = operation.setdefault("responses", {})
    statuses = ["400", "401", "403", "404", "500", "503"]
    if method != "get":
        statuses += ["409", "413", "415", "422"]
    for status in sorted(statuses):
        told.setdefault(status, _problem(status))


def _problem(status: str) -> dict[str, Any]:
    return {
        "description": _REFUSALS[status],
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }


def _json(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _operation(
    name: str,
    tag: str,
    summary: str,
    responses: dict[str, Any],
    *,
    refusals: tuple[str, ...] = ("401", "403", "405", "500", "503"),
    security: list[dict[str, list[str]]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": _BEARER if security is None else security,
        **more,
        "responses": {**responses, **{status: _problem(status) for status in refusals}},
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": _TEXT, "description": description}


def _report(name: str, summary: str, schema: str) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{schema}"}
    many = {"type": "array", "items": one, "maxItems": 10_000}
    return _operation(
        name,
        "reporting",
        summary,
        {"202": _json("The batch is durable; says what was rejected.", "BatchReceipt")},
        refusals=("400", "401", "403", "405", "413", "415", "429", "500", "503"),
        description="Scope `ingest`. One object, an array, or NDJSON; gzip allowed; at "
        "most 10,000 items and 16 MiB unpacked.",
        parameters=[_header("Content-Encoding", "`gzip`, or not sent.")],
        requestBody={
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": [one, many]}},
                "application/x-ndjson": {"schema": _TEXT},
            },
        },
    )


def _otlp(name: str, summary: str, message: str) -> dict[str, Any]:
    body = {
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {"schema": _MAP},
    }
    refused = {
        status: {"description": _REFUSALS[status], "content": body}
        for status in ("400", "401", "403", "413", "415", "429", "503")
    }
    return _operation(
        name,
        "reporting",
        summary,
        {
            "200": {
                "description": "It is durable; `partialSuccess` says what was not taken.",
                "content": body,
            },
            **refused,
        },
        refusals=("405",),
        description=f"Scope `ingest`. OTLP/HTTP: {message}, gzip allowed, at most 64 MiB "
        "unpacked. Answers, refusals (google.rpc.Status) included, come in the request's encoding.",
        parameters=[_header("Content-Encoding", "`gzip`, or not sent.")],
        requestBody={"required": True, "content": body},
    )


def _bare_paths() -> dict[str, Any]:
    asked = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OfrepRequest"}}},
    }
    either: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
    client = _header("Rollout-Client", "Who asks, so that a containment can say who obeys.")
    held = _header("If-None-Match", "The ETag of the answer held.")
    unchanged = {"304": {"description": "What is held still serves."}}
    failed = _json("The key or the context is at fault.", "OfrepError")
    text = {"description": "As text.", "content": {"text/plain": {"schema": _TEXT}}}
    return {
        "/api/v1/runs": {
            "post": _report("runs_report", "Report runs", "Run"),
        },
        "/api/v1/observations": {
            "post": _report(
                "observations_report", "Report what was learned about runs later", "Observation"
            ),
        },
        "/v1/traces": {
            "post": _otlp("otlp_traces", "Report spans (OTLP)", "ExportTraceServiceRequest")
        },
        "/v1/metrics": {
            "post": _otlp("otlp_metrics", "Report metrics (OTLP)", "ExportMetricsServiceRequest")
        },
        "/v1/logs": {
            "post": _otlp("otlp_logs", "Report log records (OTLP)", "ExportLogsServiceRequest")
        },
        "/api/v1/ingest/batches/{batch_id}": {
            "get": _operation(
                "batch_read",
                "reporting",
                "What became of a batch",
                {"200": _json("Its state, and what the drain found.", "Batch")},
                refusals=("401", "403", "404", "405", "500", "503"),
                parameters=[_path_parameter("batch_id")],
            )
        },
        "/ofrep/v1/evaluate/flags/{key}": {
            "post": _operation(
                "ofrep_evaluate",
                "asking",
                "Evaluate one flag (OFREP)",
                {
                    "200": _json("The value, with variant, reason and metadata.", "OfrepAnswer"),
                    **dict.fromkeys(("400", "401", "403", "404", "500", "503"), failed),
                },
                refusals=("405",),
                security=either,
                description="Scope `evaluate`. The key is `<workflow>.<path>`.",
                parameters=[_path_parameter("key"), client],
                requestBody=asked,
            )
        },
        "/ofrep/v1/evaluate/flags": {
            "post": _operation(
                "ofrep_evaluate_all",
                "asking",
                "Evaluate all flags (OFREP)",
                {
                    "200": _json("Every flag that the token reaches, with an ETag.", "OfrepBulk"),
                    **unchanged,
                    **dict.fromkeys(("400", "401", "403", "500", "503"), failed),
                },
                refusals=("405",),
                security=either,
                parameters=[client, held],
                requestBody=asked,
            )
        },
        "/flagd/v1/flags": {
            "get": _operation(
                "flagd_flags",
                "asking",
                "The exposure document in flagd's format",
                {"200": _json("The document, with an ETag.", "FlagdDocument"), **unchanged},
                parameters=[client, held],
            )
        },
        "/api/v1/plan-schema": {
            "get": _operation(
                "plan_schema",
                "plans and releases",
                "The JSON Schema of a plan",
                {
                    "200": {
                        "description": "JSON Schema 2020-12; it never refuses a plan that fits.",
                        "content": {"application/schema+json": {"schema": _MAP}},
                    }
                },
                refusals=("405", "500", "503"),
                security=[],
            )
        },
        "/healthz": {
            "get": _operation(
                "healthz",
                "running",
                "Is the process there",
                {"200": _json("It is.", "Health")},
                refusals=("405",),
                security=[],
            )
        },
        "/readyz": {
            "get": _operation(
                "readyz",
                "running",
                "May it be sent requests",
                {
                    "200": _json("Yes; parts are reported beside.", "Health"),
                    "503": _json("Not yet; says what is missing.", "Health"),
                },
                refusals=("405",),
                security=[],
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "running",
                "Prometheus metrics",
                {"200": text},
                description="Scope `read`, unless asked from loopback.",
            )
        },
    }


_NUMBER: Final = {"type": "number", "minimum": 0}
_COUNT: Final = {"type": "integer", "minimum": 0}
_SHARE: Final = {"type": "number", "minimum": 0, "maximum": 1}
_BOOL: Final = {"type": "boolean"}
_MAP: Final = {"type": "object", "additionalProperties": True}
_OUTCOME: Final = {
    "type": "string",
    "enum": ["ok", "error", "fallback", "escalated", "abandoned", "blocked"],
}

_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "pointer": _TEXT,
                    "detail": _TEXT,
                    "line": {"type": "integer"},
                },
            },
        },
    },
}

_BARE_SCHEMAS: Final[dict[str, Any]] = {
    "Run": {
        "type": "object",
        "required": ["id", "occurred_at", "workflow", "path", "release", "outcome"],
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 200},
            "occurred_at": {"type": "string", "format": "date-time"},
            "workflow": _TEXT,
            "path": _TEXT,
            "release": {"type": "string", "nullable": True},
            "segment": _TEXT,
            "context": _MAP,
            "arm": {"type": "string", "enum": ["stable", "candidate"]},
            "mode": _TEXT,
            "route": {"type": "string", "nullable": True},
            "exposure_version": _COUNT,
            "client": _TEXT,
            "subject": {"type": "string", "maxLength": 200},
            "outcome": _OUTCOME,
            "failure_category": {"type": "string", "maxLength": 100},
            "critical": _BOOL,
            "risk": {"type": "string", "enum": ["low", "high"]},
            "input_condition": {"type": "string", "enum": ["clean", "messy", "ambiguous"]},
            "latency_ms": _NUMBER,
            "cost_usd": _NUMBER,
            "cost_known": _BOOL,
            "input_tokens": _COUNT,
            "output_tokens": _COUNT,
            "context_tokens": _COUNT,
            "retries": _COUNT,
            "steps": _COUNT,
            "tool_calls": _COUNT,
            "retrieved": _COUNT,
            "retrieval_score": _SHARE,
            "confidence": _SHARE,
            "quality": {"type": "object", "properties": {"score": _SHARE, "passed": _BOOL}},
            "review_requested": _BOOL,
            "attributes": {"type": "object", "additionalProperties": _TEXT, "maxProperties": 20},
            "measures": {"type": "object", "additionalProperties": {"type": "number"}},
            "trace_id": _TEXT,
            "drill": _TEXT,
        },
    },
    "Observation": {
        "type": "object",
        "required": ["id", "workflow", "run_id", "occurred_at", "kind"],
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 200},
            "workflow": _TEXT,
            "run_id": {"type": "string", "minLength": 1, "maxLength": 200},
            "run_occurred_at": {"type": "string", "format": "date-time"},
            "occurred_at": {"type": "string", "format": "date-time"},
            "kind": {"type": "string", "enum": ["evaluation", "review", "feedback", "outcome"]},
            "name": {"type": "string", "maxLength": 200},
            "score": _SHARE,
            "passed": _BOOL,
            "verdict": {"type": "string", "enum": ["approved", "edited", "rejected"]},
            "reviewer": {"type": "string", "maxLength": 200},
            "duration_ms": _NUMBER,
            "value": {
                "type": "string",
                "enum": ["up", "down", "complaint", "abandon", "undo", "rerun"],
            },
            "outcome": _OUTCOME,
            "failure_category": {"type": "string", "maxLength": 100},
            "critical": _BOOL,
        },
    },
    "BatchReceipt": {
        "type": "object",
        "required": ["batch_id", "accepted", "rejected", "errors"],
        "properties": {
            "batch_id": _TEXT,
            "accepted": _COUNT,
            "rejected": _COUNT,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"index": _COUNT, "pointer": _TEXT, "detail": _TEXT},
                },
            },
        },
    },
    "Batch": {
        "type": "object",
        "required": ["batch_id", "kind", "state", "accepted", "rejected", "duplicates"],
        "properties": {
            "batch_id": _TEXT,
            "kind": {"type": "string", "enum": ["runs", "observations"]},
            "state": {"type": "string", "enum": ["pending", "drained", "failed"]},
            "accepted": _COUNT,
            "rejected": _COUNT,
            "duplicates": {"type": "integer", "nullable": True},
            "unknown_segments": {"type": "object", "additionalProperties": _COUNT},
            "waiting": {**_COUNT, "description": "Observations whose run has not come."},
            "unknown": {**_COUNT, "description": "Observations whose run never came."},
        },
        "additionalProperties": True,
    },
    "OfrepRequest": {
        "type": "object",
        "properties": {
            "context": {
                "type": "object",
                "properties": {"targetingKey": _TEXT},
                "additionalProperties": True,
            }
        },
    },
    "OfrepAnswer": {
        "type": "object",
        "required": ["key"],
        "properties": {
            "key": _TEXT,
            "value": _MAP,
            "variant": _TEXT,
            "reason": _TEXT,
            "metadata": _MAP,
            "errorCode": _TEXT,
            "errorDetails": _TEXT,
        },
    },
    "OfrepBulk": {
        "type": "object",
        "properties": {
            "flags": {"type": "array", "items": {"$ref": "#/components/schemas/OfrepAnswer"}},
            "metadata": _MAP,
        },
    },
    "OfrepError": {
        "type": "object",
        "properties": {"key": _TEXT, "errorCode": _TEXT, "errorDetails": _TEXT},
    },
    "FlagdDocument": {
        "type": "object",
        "required": ["flags"],
        "properties": {"flags": _MAP, "metadata": _MAP},
    },
    "Health": _MAP,
}
