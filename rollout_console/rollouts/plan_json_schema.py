"""The plan as a JSON Schema (2020-12), for editors and pipelines. Pure: no Django.

It is made of the reader's own words and bounds, and never refuses what the reader takes; a test
holds the two together. The reader says more: names that are not there, ladders that shrink.
"""

from functools import cache
from typing import Any, Final

from rollout_console.rollouts.plan_check import COUNT_MAX, KEY_SLUG, MONEY_MAX, RELEASE, SLUG
from rollout_console.rollouts.plan_guards import (
    ACTIONS,
    COMPARES,
    FALLBACK_MODES,
    RESPONSES,
    SEVERITIES,
)
from rollout_console.rollouts.plan_rules import OPERATORS
from rollout_console.rollouts.plan_schema import (
    COMPONENTS,
    HOLD_S,
    HOLD_WITH_ROUTES_S,
    KINDS,
    LADDER_ROLES,
    MODES,
    NO_AI_MODES,
    ROLES,
)
from rollout_console.rollouts.plan_signals import BETTER, FEEDS, SIGNALS_MAX, UNIT_MAX
from rollout_console.rollouts.plan_signals import KINDS as SIGNAL_KINDS
from signals.catalogue import SIGNALS
from signals.definition import WORDS_OF

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_NULL: Final[Schema] = {"type": "null"}


@cache
def plan_json_schema() -> Schema:
    """Return the schema of a plan document."""
    return {
        "$schema": DIALECT,
        "$id": "/api/v1/plan-schema",
        "title": "Rollout Console plan",
        **_map(
            {
                "version": {"const": 1, "description": "The format of this file."},
                "workflow": _workflow(),
                "action_routes": _maybe(_list(_action_route(), most=100)),
                "releases": _maybe(_list(_release(), most=200)),
                "rollout": _maybe(_rollout()),
            },
            required=("version", "workflow"),
        ),
    }


def _map(properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _maybe(schema: Schema) -> Schema:
    """An optional value: null counts as left out."""
    return {"anyOf": [schema, _NULL]}


def _list(items: Schema, *, least: int = 0, most: int = 500) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _text(most: int = 200, *, said: str = "") -> Schema:
    return {
        "type": "string",
        "pattern": r"\S",
        "maxLength": most,
        **({"description": said} if said else {}),
    }


def _free(most: int = 200) -> Schema:
    """An optional text, which may be empty."""
    return _maybe({"type": "string", "maxLength": most})


def _word(words: tuple[str, ...], *, optional: bool = False) -> Schema:
    return {"enum": [*words, "", None]} if optional else {"enum": list(words)}


def _slug(pattern: Any) -> Schema:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


def _whole(least: int, *, said: str = "") -> Schema:
    return {
        "type": "integer",
        "minimum": least,
        "maximum": COUNT_MAX,
        **({"description": said} if said else {}),
    }


def _above_zero(most: float | None = None) -> Schema:
    bound = {} if most is None else {"maximum": most}
    return {"type": "number", "exclusiveMinimum": 0, **bound}


def _money(bound: Schema) -> Schema:
    """US dollars."""
    return _decimal({"maximum": MONEY_MAX, **bound})


def _decimal(bound: Schema) -> Schema:
    """A number, or a decimal text."""
    return {
        "anyOf": [
            {"type": "number", **bound},
            {"type": "string", "pattern": r"^[0-9]{1,20}(\.[0-9]{1,20})?$"},
        ]
    }


def _workflow() -> Schema:
    step = _map(
        {
            "after_s": _whole(1),
            "notify": _text(150, said=f"A user name, or one of {', '.join(LADDER_ROLES)}."),
        },
        required=("after_s", "notify"),
    )
    return _map(
        {
            "slug": _slug(KEY_SLUG),
            "name": _free(),
            "owner": _text(150, said="A user name."),
            "deputy": _text(150, said="A user name."),
            "escalation": _maybe(_list(step, most=20)),
            "discovery": _maybe({"type": "boolean"}),
            "hold_s": _maybe(
                _whole(
                    1,
                    said=f"{HOLD_S} unless said; with action routes at most {HOLD_WITH_ROUTES_S}.",
                )
            ),
            "paths": _list(_path(), least=1, most=100),
            "segments": _maybe(_list(_segment(), most=200)),
            "action_routes": _maybe(_list(_action_route(), most=100)),
            "signals": _maybe(_list(_signal(), most=SIGNALS_MAX)),
        },
        required=("slug", "owner", "deputy", "paths"),
    )


def _path() -> Schema:
    limits = {key: _maybe(_above_zero()) for key in ("latency_p95_ms", "slow_path_ms")}
    for key in ("cost_per_task_usd", "fallback_cost_per_task_usd", "spend_usd_per_hour"):
        limits[key] = _maybe(_money({"exclusiveMinimum": 0}))
    review = {
        "capacity_per_hour": _maybe(_above_zero()),
        "points": _maybe(_list(_text(500))),
    }
    return _map(
        {
            "slug": _slug(KEY_SLUG),
            "name": _free(),
            "sensitivity": _word(("normal", "sensitive"), optional=True),
            "no_ai_mode": _word(NO_AI_MODES, optional=True),
            "unreachable_mode": _word(MODES, optional=True),
            "limits": _maybe(_map(limits)),
            "review": _maybe(_map(review)),
            "fallbacks": _maybe(_map({mode: _fallback(mode) for mode in FALLBACK_MODES})),
        },
        required=("slug",),
    )


def _fallback(mode: str) -> Schema:
    when = _map(
        {
            "input_condition": _word(("clean", "messy", "ambiguous"), optional=True),
            "risk": _word(("low", "high"), optional=True),
            "confidence_below": _maybe(_above_zero(1)),
        }
    )
    properties: Schema = {"when": _maybe({**when, "minProperties": 1})}
    if mode == "simpler_route":
        return _map({**properties, "route": _text(100)}, required=("route",))
    if mode == "reduced_context":
        settings = _map({key: _maybe(_whole(0)) for key in ("documents", "context_tokens")})
        properties["settings"] = {**settings, "minProperties": 1}
        return _map(properties, required=("settings",))
    return _maybe(_map(properties))


def _segment() -> Schema:
    operation = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"enum": list(OPERATORS)},
    }
    return _map(
        {
            "slug": _slug(SLUG),
            "name": _free(),
            "kind": _word(KINDS),
            "rule": {
                "anyOf": [{"const": True}, operation],
                "description": "JSONLogic over the evaluation context; true is everybody.",
            },
            "owner": _text(150, said="A user name."),
            "tasks_per_day": _maybe(_whole(0)),
            "people": _maybe(_whole(0)),
        },
        required=("slug", "kind", "rule", "owner"),
    )


def _action_route() -> Schema:
    scope = _map(
        {
            "objects": _maybe(_list(_text())),
            "per_hour": _maybe(_whole(1)),
            "per_subject_per_day": _maybe(_whole(1)),
            "parameters": _maybe({"type": "object"}),
        }
    )
    return _map(
        {
            "slug": _slug(SLUG),
            "scope": _maybe(scope),
            "effect": _word(("write", "read"), optional=True),
            "risk": _word(("high", "medium", "low")),
            "reversibility": _word(("irreversible", "reversible")),
            "undo_s": _maybe(_whole(1)),
            "role": _word(ROLES, optional=True),
            "default": _word(("ask", "allow", "deny"), optional=True),
        },
        required=("slug", "risk", "reversibility"),
    )


def _signal() -> Schema:
    words = {key: _list(_word(WORDS_OF[key]), least=1) for key in WORDS_OF}
    return {
        **_map(
            {
                "slug": {**_slug(SLUG), "not": {"enum": list(SIGNALS)}},
                "name": _free(60),
                "title": _free(120),
                "phrase": _free(200),
                "unit": _free(UNIT_MAX),
                "kind": _word(SIGNAL_KINDS),
                "better": _word(BETTER),
                "measure": _free(),
                "evaluation": _free(),
                "outcome": _maybe(words["outcome"]),
                "failure_category": _maybe(_list(_text(100), least=1)),
                "feedback": _maybe(words["feedback"]),
                "review": _maybe(words["review"]),
                "q": _maybe(_above_zero(0.9999)),
                "above": _maybe({"type": "number"}),
                "per_task": _maybe({"type": "boolean"}),
            },
            required=("slug", "kind", "better"),
        ),
        "anyOf": [{"required": [key], "properties": {key: {"not": _NULL}}} for key in FEEDS],
    }


def _release() -> Schema:
    change = _map(
        {
            "component": _word(COMPONENTS),
            "name": _text(),
            "before": _free(100_000),
            "after": _free(100_000),
            "note": _free(5_000),
        },
        required=("component", "name"),
    )
    source = _map({key: _free(1_000) for key in ("repository", "commit", "url")})
    return _map(
        {
            "version": _slug(RELEASE),
            "changes": _maybe(_list(change, most=200)),
            "source": _maybe(source),
        },
        required=("version",),
    )


def _rollout() -> Schema:
    exposed = _map(
        {"segment": _text(said="A segment of this plan."), "share": _above_zero(1)},
        required=("segment", "share"),
    )
    stage = _map(
        {
            "slug": _slug(SLUG),
            "segments": _list(exposed, least=1),
            "bake_s": _whole(1, said="The least length of the stage."),
            "min_runs": _maybe(_whole(0)),
        },
        required=("slug", "segments", "bake_s"),
    )
    return _map(
        {
            "slug": _slug(SLUG),
            "paths": _maybe(_list(_text(), least=1)),
            "candidate": _slug(RELEASE),
            "stable": _maybe(_slug(RELEASE)),
            "stages": _list(stage, least=1, most=50),
            "criteria": _maybe(_list(_guard(COMPARES[:-1]), most=200)),
            "triggers": _maybe(_list(_guard(COMPARES, trigger=True), most=200)),
        },
        required=("slug", "candidate", "stable", "stages"),
    )


def _guard(compares: tuple[str, ...], *, trigger: bool = False) -> Schema:
    properties: Schema = {
        "slug": _slug(SLUG),
        "path": _text(said="A path of the rollout."),
        "segment": _free(),
        "signal": {
            "anyOf": [_word(tuple(SIGNALS)), _slug(SLUG)],
            "description": "A signal of the catalogue, or one that this plan defines.",
        },
        "compare": _word(compares),
        # Only a signal of the team's own may be below zero.
        "limit": _maybe(_decimal({})),
        "margin": _maybe({"type": "number", "minimum": 0}),
        "window_s": _maybe(_whole(1)),
        "min_n": _maybe(_whole(1)),
    }
    if trigger:
        properties["severity"] = _word(SEVERITIES, optional=True)
        properties["response"] = _maybe(_response())
    limited = {
        "if": {"properties": {"compare": {"enum": ["limit", "hard_cap"]}}},
        "then": {
            "required": ["limit"],
            "properties": {"limit": {"not": _NULL}, "margin": _NULL},
        },
        "else": {"properties": {"limit": _NULL}},
    }
    return {**_map(properties, required=("slug", "path", "signal", "compare")), **limited}


def _response() -> Schema:
    properties: Schema = {
        "kind": _word(RESPONSES),
        "action": _word(ACTIONS, optional=True),
        "mode": _word(FALLBACK_MODES, optional=True),
        "action_route": _free(),
    }
    only_tells = {
        "if": {"properties": {"kind": {"const": "alert"}}},
        "then": {"properties": dict.fromkeys(("action", "mode", "action_route"), _NULL)},
    }
    return {**_map(properties, required=("kind",)), **only_tells}
