"""What a rollout's exposed set cannot show, and what its paths cost and ask of reviewers."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rollout_console.api import economics_bodies as bodies
from rollout_console.api.access import ApiView
from rollout_console.api.reads import rollout_readable, whole
from rollout_console.economics.rows import PathEconomics
from rollout_console.economics.selectors import WINDOW, rollout_economics
from rollout_console.rollouts.exposed_mix import PathMix, exposed_mixes

WINDOW_LEAST_S: Final = 60
WINDOW_MOST_S: Final = 7 * 86_400


class MixView(ApiView):
    @extend_schema(
        summary="The exposed mix against everybody else's, and what it cannot show",
        responses=bodies.MixOut,
    )
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        now = self.now
        paths = [_mix(each) for each in exposed_mixes(rollout, now=now)]
        return Response({"rollout": rollout.slug, "as_of": now, "paths": paths})


class EconomicsView(ApiView):
    @extend_schema(
        summary="Spend, budgets, reviews, fallbacks, tokens and routes, now and after widening",
        parameters=[
            OpenApiParameter(
                "window", int, description="Seconds that rates are of; an hour unless said."
            )
        ],
        responses=bodies.EconomicsOut,
    )
    def get(self, request: Request, slug: str) -> Response:
        rollout = rollout_readable(self, slug)
        now = self.now
        window_s = whole(
            request,
            "window",
            default=int(WINDOW.total_seconds()),
            least=WINDOW_LEAST_S,
            most=WINDOW_MOST_S,
        )
        found = rollout_economics(rollout, now=now, window=timedelta(seconds=window_s))
        return Response(
            {
                "rollout": rollout.slug,
                "as_of": now,
                "paths": [_economics(each, now) for each in found],
            }
        )


def _mix(mix: PathMix) -> dict[str, Any]:
    return {**asdict(mix), "too_protected": mix.too_protected}


def _economics(found: PathEconomics, now: datetime) -> dict[str, Any]:
    age_s = None if found.last_at is None else max(0.0, (now - found.last_at).total_seconds())
    return {**asdict(found), "age_s": age_s}
