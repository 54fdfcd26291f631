"""Small plans for tests: whole, valid, and cut to seconds."""

from typing import Any


def plan_document(workflow: str = "support-reply", **rollout: Any) -> dict[str, Any]:
    """Return a plan with one path, two segments, two stages and a trigger per signal."""
    return {
        "version": 1,
        "workflow": {
            "slug": workflow,
            "name": "Support reply",
            "owner": "owner",
            "deputy": "deputy",
            "escalation": [{"after_s": 300, "notify": "deputy"}],
            "hold_s": 60,
            "paths": [
                {
                    "slug": "draft",
                    "name": "Draft a reply",
                    "sensitivity": "normal",
                    "no_ai_mode": "manual",
                    "unreachable_mode": "previous_stable",
                    "limits": {"latency_p95_ms": 6000, "cost_per_task_usd": 0.085},
                    "review": {"capacity_per_hour": 12, "points": ["ambiguous outputs"]},
                    "fallbacks": {
                        "human_review": {"when": {"input_condition": "ambiguous"}},
                        "read_only": {},
                    },
                }
            ],
            "segments": [
                {
                    "slug": "internal-ops",
                    "name": "Internal operations",
                    "kind": "internal_team",
                    "rule": {"==": [{"var": "team"}, "internal"]},
                    "owner": "owner",
                    "tasks_per_day": 400,
                },
                {
                    "slug": "eu-customers",
                    "name": "EU customers",
                    "kind": "customer_segment",
                    "rule": {"==": [{"var": "customer_segment"}, "eu"]},
                    "owner": "owner",
                    "tasks_per_day": 9000,
                },
            ],
            "action_routes": [
                {
                    "slug": "send_message",
                    "scope": {"objects": ["email"], "per_hour": 40},
                    "effect": "write",
                    "risk": "low",
                    "reversibility": "reversible",
                    "role": "reviewer",
                    "default": "ask",
                }
            ],
        },
        "releases": [
            {
                "version": "2026.11.2",
                "changes": [
                    {
                        "component": "prompt",
                        "name": "refund-policy",
                        "before": "v18",
                        "after": "v19",
                        "note": "offer an exchange first",
                    }
                ],
            }
        ],
        "rollout": {
            "slug": f"{workflow}-2026.11.2",
            "paths": ["draft"],
            "candidate": "2026.11.2",
            "stable": "2026.10.4",
            "stages": [
                {
                    "slug": "first",
                    "segments": [{"segment": "internal-ops", "share": 0.9}],
                    "bake_s": 60,
                    "min_runs": 50,
                },
                {
                    "slug": "eu",
                    "segments": [
                        {"segment": "internal-ops", "share": 1.0},
                        {"segment": "eu-customers", "share": 0.05},
                    ],
                    "bake_s": 60,
                    "min_runs": 200,
                },
            ],
            "criteria": [
                {
                    "slug": "cost-inside",
                    "path": "draft",
                    "signal": "cost_per_task_usd",
                    "compare": "limit",
                    "limit": 0.085,
                    "min_n": 20,
                },
                {
                    "slug": "quality-holds",
                    "path": "draft",
                    "signal": "quality_pass_rate",
                    "compare": "limit",
                    "limit": 0.85,
                    "min_n": 20,
                },
            ],
            "triggers": [
                {
                    "slug": "quality-low",
                    "path": "draft",
                    "signal": "quality_pass_rate",
                    "compare": "limit",
                    "limit": 0.85,
                    "window_s": 30,
                    "min_n": 20,
                    "severity": "high",
                    "response": {"kind": "recommend", "action": "rollback"},
                },
                {
                    "slug": "slow",
                    "path": "draft",
                    "signal": "latency_p95_ms",
                    "compare": "limit",
                    "limit": 6000,
                    "window_s": 30,
                    "min_n": 20,
                    "severity": "high",
                    "response": {"kind": "recommend", "action": "rollback"},
                },
                {
                    "slug": "spend-cap",
                    "path": "draft",
                    "signal": "cost_per_task_usd",
                    "compare": "hard_cap",
                    "limit": 2.0,
                    "severity": "critical",
                    "response": {"kind": "contain", "action": "rollback"},
                },
            ],
            **rollout,
        },
    }
