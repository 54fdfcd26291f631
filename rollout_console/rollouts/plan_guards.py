"""A plan's criteria and triggers. Pure: no Django."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rollout_console.rollouts.plan_check import Part, close_to, unique
from signals.catalogue import Signal, signal_of

COMPARES: Final = ("limit", "stable", "history", "hard_cap")
SEVERITIES: Final = ("low", "medium", "high", "critical")
RESPONSES: Final = ("alert", "recommend", "contain_after_hold", "contain")
# Automation only contains, so nothing here widens.
ACTIONS: Final = (
    "narrow",
    "pause",
    "fallback",
    "rollback",
    "disable_action",
    "require_approval",
    "escalate",
)
FALLBACK_MODES: Final = (
    "human_review",
    "manual",
    "previous_stable",
    "simpler_route",
    "reduced_context",
    "read_only",
)

# Which fallback suits which signal (requirement E2), where a response names none.
_PAIRS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "slow_path_rate"), "simpler_route"
    ),
    **dict.fromkeys(
        ("cost_per_task_usd", "spend_usd_per_hour", "input_tokens_per_task"), "reduced_context"
    ),
    **dict.fromkeys(("confidence_mean", "action_undo_rate", "action_failure_rate"), "read_only"),
    "critical_failures": "manual",
}


@dataclass(frozen=True, slots=True)
class GuardPlan:
    """A criterion or trigger; None where the plan leaves a number to the console."""

    slug: str
    kind: str
    path: str
    segment: str | None
    signal: str
    compare: str
    limit: float | None
    margin: float | None
    window_s: int | None
    min_n: int | None
    severity: str = "high"
    response: dict[str, Any] = field(default_factory=dict)
    # The signal as its plan defines it; what differs in it alone is no other guard.
    of: Signal = field(default=signal_of(""), compare=False)


def guards_read(
    rollout: Part,
    *,
    declared: Mapping[str, Sequence[str]],
    segments: Sequence[str],
    routes: Sequence[str],
    signals: Mapping[str, Signal],
) -> list[GuardPlan]:
    """Read both lists; `declared` maps each of the rollout's paths to its fallback modes.

    `signals` are those that a guard may name: the catalogue's, and the plan's own.
    """
    made: list[tuple[Part, GuardPlan]] = []
    for kind, key in (("criterion", "criteria"), ("trigger", "triggers")):
        for part in rollout.parts(key, what=f"A {kind}", most=200):
            guard = _guard(part, kind=kind, declared=declared, segments=segments, signals=signals)
            if kind == "trigger":
                guard = _answered(part, guard, declared=declared, routes=routes)
            part.nothing_else()
            made.append((part, guard))
    unique(((part, guard.slug) for part, guard in made), "slug", "criterion or trigger")
    return [guard for _, guard in made]


def _guard(
    part: Part,
    *,
    kind: str,
    declared: Mapping[str, Sequence[str]],
    segments: Sequence[str],
    signals: Mapping[str, Signal],
) -> GuardPlan:
    slug = part.slug("slug")
    path = part.reference("path", declared, "path of the rollout")
    segment = part.reference("segment", segments, "segment", required=False) or None
    signal = part.text("signal", required=True)
    if signal and signal not in signals:
        near = close_to(signal, [*signals], most=3)
        part.fault("signal", f"There is no signal “{signal[:80]}”{near}")
    compares = COMPARES if kind == "trigger" else COMPARES[:-1]
    compare = part.choice("compare", compares, required=True)
    limit = _limit(part, signals.get(signal))
    if compare in ("limit", "hard_cap"):
        if limit is None and not part.has("limit"):
            part.fault("limit", f"“compare: {compare}” needs a “limit”.")
    elif limit is not None:
        part.fault("limit", f"“compare: {compare}” has no “limit”; say how far off with “margin”.")
    margin = part.number("margin", least=0)
    if margin is not None and compare in ("limit", "hard_cap"):
        part.fault("margin", f"“compare: {compare}” has no “margin”.")
    return GuardPlan(
        slug=slug,
        kind=kind,
        path=path,
        segment=segment,
        signal=signal,
        compare=compare,
        limit=limit,
        margin=margin,
        window_s=part.whole_number("window_s", least=1),
        min_n=part.whole_number("min_n", least=1),
        of=signals.get(signal, signal_of(signal)),
    )


def _limit(part: Part, known: Signal | None) -> float | None:
    if known is None:
        return part.number("limit", least=0)
    if known.kind == "rate" or (known.unit in ("share", "score") and not known.own):
        return part.number("limit", least=0, most=1)
    if known.own and known.kind != "count":
        # A team's own measure may be negative.
        return part.number("limit")
    return part.number("limit", least=0, money=known.unit in ("usd", "usd/h"))


def _answered(
    part: Part,
    guard: GuardPlan,
    *,
    declared: Mapping[str, Sequence[str]],
    routes: Sequence[str],
) -> GuardPlan:
    """Return the trigger with its severity and response."""
    severity = part.choice("severity", SEVERITIES, default="high")
    response: dict[str, Any] = {"kind": "alert"}
    if part.has("response"):
        one = part.part("response", what="“response”")
        response = _response(one, guard, modes=declared.get(guard.path, ()), routes=routes)
        one.nothing_else()
    else:
        part.raw("response")
    return replace(guard, severity=severity, response=response)


def _response(
    part: Part, guard: GuardPlan, *, modes: Sequence[str], routes: Sequence[str]
) -> dict[str, Any]:
    kind = part.choice("kind", RESPONSES, required=True)
    if kind == "alert":
        for key in ("action", "mode", "action_route"):
            if part.has(key):
                part.fault(key, f"“kind: alert” only tells people, so it has no “{key}”.")
            part.raw(key)
        return {"kind": kind}
    if not part.has("action") and kind == "contain":
        part.fault("action", "“kind: contain” names its “action”.")
    action = part.choice("action", ACTIONS, default="narrow")
    response: dict[str, Any] = {"kind": kind, "action": action}
    if action == "fallback":
        response["mode"] = _mode(part, guard, modes)
    elif part.has("mode"):
        part.fault("mode", f"“action: {action}” has no “mode”; only a fallback has.")
    part.raw("mode")
    if action in ("disable_action", "require_approval"):
        response["action_route"] = part.reference("action_route", routes, "action route")
    elif part.has("action_route"):
        part.fault("action_route", f"“action: {action}” has no “action_route”.")
    part.raw("action_route")
    return response


def _mode(part: Part, guard: GuardPlan, modes: Sequence[str]) -> str:
    if part.has("mode"):
        mode = part.choice("mode", FALLBACK_MODES)
    else:
        mode = _PAIRS.get(guard.signal, "human_review")
    if guard.path and mode not in modes:
        part.fault(
            "mode",
            f"The path “{guard.path[:80]}” declares no fallback “{mode}”; "
            f"{'it has: ' + ', '.join(modes) if modes else 'it has none'}.",
        )
    return mode
