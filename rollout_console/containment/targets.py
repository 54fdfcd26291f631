"""What a press is about: which paths, segments and action route of a rollout it names."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from rollout_console.catalog.models import ActionRoute, Segment, WorkflowPath
from rollout_console.core.errors import InvalidInput
from rollout_console.rollouts.models import Rollout


@dataclass(frozen=True, slots=True)
class Press:
    """What a containment action is to do, as far as it was said; None: everywhere, or all.

    For narrow, `segments` stay exposed and `share` (0-1] is the most that each keeps. For the
    others `segments` and `paths` say where.
    """

    segments: tuple[str, ...] | None = None
    share: Decimal | None = None
    paths: tuple[str, ...] | None = None
    mode: str | None = None
    action_route: str | None = None
    # For narrow, the exposed set itself, as a clock froze it.
    to: Mapping[str, Decimal] | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values, without what was not said."""
        return {key: _plain(value) for key, value in asdict(self).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return sorted(value) if isinstance(value, tuple) else value


def paths_named(rollout: Rollout, press: Press) -> list[WorkflowPath]:
    """Return the paths that a press is about: those it names, else all of the rollout's.

    Raises:
        InvalidInput: the rollout has no such path.
    """
    rows = rollout.rollout_paths.select_related("path").order_by("path__slug")
    here = {row.path.slug: row.path for row in rows}
    if press.paths is None:
        return list(here.values())
    return [here[slug] for slug in _known(press.paths, here, field="paths", noun="path")]


def segments_named(rollout: Rollout, press: Press) -> list[Segment | None]:
    """Return the segments that a press is about; [None] stands for everybody.

    Raises:
        InvalidInput: the workflow has no such segment.
    """
    if press.segments is None:
        return [None]
    here = {row.slug: row for row in rollout.workflow.segments.order_by("slug")}
    return [here[slug] for slug in _known(press.segments, here, field="segments", noun="segment")]


def action_route_named(rollout: Rollout, press: Press) -> ActionRoute:
    """Return the action route that a press is about.

    Raises:
        InvalidInput: none is named, or the workflow has no such route.
    """
    here = {row.slug: row for row in rollout.workflow.action_routes.order_by("slug")}
    if press.action_route is None:
        raise InvalidInput(
            "Say which action route it is about.",
            errors=[{"pointer": "/action_route", "detail": _choices(here)}],
        )
    (slug,) = _known([press.action_route], here, field="action_route", noun="action route")
    return here[slug]


def _known(slugs: Iterable[str], here: Iterable[str], *, field: str, noun: str) -> list[str]:
    known = list(here)
    wanted = list(dict.fromkeys(slugs))
    for slug in wanted:
        if slug not in known:
            raise InvalidInput(
                f"There is no {noun} “{slug[:80]}” here.",
                errors=[{"pointer": f"/{field}", "detail": _choices(known)}],
            )
    if not wanted:
        raise InvalidInput(
            f"Name at least one {noun}, or leave “{field}” out for all.",
            errors=[{"pointer": f"/{field}", "detail": _choices(known)}],
        )
    return wanted


def _choices(known: Iterable[str]) -> str:
    return f"Use one of: {', '.join(known) or 'there is none'}."
