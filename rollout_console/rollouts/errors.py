"""Refusals of plans, releases and the steps of a rollout."""

from collections.abc import Iterable, Mapping
from typing import Any

from rollout_console.core.errors import DomainError, InvalidInput
from rollout_console.rollouts.plan_check import Fault


class PlanInvalid(InvalidInput):
    """The plan does not fit; `errors` names every fault with pointer and, for YAML, line."""

    code = "plan-invalid"
    title = "The plan does not fit"


class PlanConflict(DomainError):
    """The plan is sound, but contradicts what is stored; nothing was applied."""

    code = "plan-conflict"
    title = "The plan contradicts what is there"


class PlanInForce(DomainError):
    """The plan would change what a rollout in force stands on."""

    code = "plan-in-force"
    title = "A rollout in force keeps its plan"


class PlanChangeWaits(DomainError):
    """Another loosening change of this workflow's plan waits for its decision."""

    code = "plan-change-waits"
    title = "Another change of this plan waits"


class PlanChangeClosed(DomainError):
    """The change was decided, expired or became void; a new one is proposed instead."""

    code = "plan-change-closed"
    title = "This change is closed"


class PlanChangeMoved(DomainError):
    """What the decision was made on is not what there is."""

    code = "plan-change-moved"
    title = "The change is not what you saw"


class ApproverIsRequester(DomainError):
    code = "approver-is-requester"
    title = "A second person must decide"
    status = 403


class ReleaseDiffers(DomainError):
    code = "release-differs"
    title = "This release is registered with other content"


class RolloutInForce(DomainError):
    code = "rollout-in-force"
    title = "Another rollout is in force"


class GateNotPassed(DomainError):
    """The readiness gate misses something; `missing` holds {item, detail, fix} for each."""

    code = "gate-not-passed"
    title = "The readiness gate is not passed"


class StepRefused(DomainError):
    """The rollout's state does not admit the step."""

    code = "move-not-allowed"
    title = "Not possible in this state"


def errors_of(
    faults: Iterable[Fault], lines: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Return faults as a problem document's `errors`."""
    made = []
    for fault in faults:
        error: dict[str, Any] = {"pointer": fault.pointer, "detail": fault.detail}
        if (line := line_of(fault.pointer, lines or {})) is not None:
            error["line"] = line
        made.append(error)
    return made


def line_of(pointer: str, lines: Mapping[str, int]) -> int | None:
    """Return the line of `pointer`, or of the nearest part around it that is there."""
    while pointer not in lines:
        if not pointer:
            return None
        pointer = pointer.rpartition("/")[0]
    return lines[pointer]


def faults_sentence(errors: list[dict[str, Any]]) -> str:
    """Return one sentence for many faults: how many, and the first one."""
    first = errors[0]
    where = f"line {first['line']}: " if "line" in first else ""
    if len(errors) == 1:
        return f"The plan has an error, {where}{first['detail']}"
    return f"The plan has {len(errors)} errors; the first, {where}{first['detail']}"
