"""The control API's addresses; the machines' own stand in `api.bare.routes`."""

from django.urls import path, re_path

from rollout_console.api import (
    action_requests,
    controls,
    docs,
    economics,
    expansions,
    exposure,
    health,
    inbound,
    notifications,
    otlp,
    plans,
    pulls,
    reads,
    releases,
    runs,
    series,
    signals,
    sources,
)

app_name = "api"

urlpatterns = [
    path("schema/", docs.schema, name="schema"),
    path("docs/", docs.docs_page, name="docs"),
    path("v1/me", reads.MeView.as_view(), name="me"),
    path("v1/overview", reads.OverviewView.as_view(), name="overview"),
    path("v1/workflows", reads.WorkflowsView.as_view(), name="workflows"),
    path("v1/rollouts", reads.RolloutsView.as_view(), name="rollouts"),
    path("v1/rollouts/<str:slug>", reads.RolloutView.as_view(), name="rollout"),
    path("v1/rollouts/<str:slug>/verdicts", reads.VerdictsView.as_view(), name="verdicts"),
    path("v1/rollouts/<str:slug>/readiness", reads.ReadinessView.as_view(), name="readiness"),
    path("v1/rollouts/<str:slug>/mix", economics.MixView.as_view(), name="mix"),
    path("v1/rollouts/<str:slug>/economics", economics.EconomicsView.as_view(), name="economics"),
    path("v1/exposure/versions", reads.ExposureVersionsView.as_view(), name="exposure_versions"),
    path(
        "v1/exposure/versions/<int:number>",
        exposure.ExposureVersionView.as_view(),
        name="exposure_version",
    ),
    path("v1/exposure/at", exposure.ExposureAtView.as_view(), name="exposure_at"),
    path("v1/exposure/evaluate", exposure.EvaluateView.as_view(), name="exposure_evaluate"),
    path("v1/sources", sources.SourcesView.as_view(), name="sources"),
    path("v1/runs", runs.RunsView.as_view(), name="runs"),
    path("v1/signals/series", series.SeriesView.as_view(), name="series"),
    path("v1/alerts", reads.AlertsView.as_view(), name="alerts"),
    path("v1/audit", reads.AuditView.as_view(), name="audit"),
    path("v1/plan-schema", docs.plan_schema, name="plan_schema"),
    path("v1/plans/<str:workflow>", controls.PlanView.as_view(), name="plan"),
    path(
        "v1/plans/<str:workflow>/versions",
        plans.PlanVersionsView.as_view(),
        name="plan_versions",
    ),
    path(
        "v1/plans/<str:workflow>/versions/<int:number>",
        plans.PlanVersionView.as_view(),
        name="plan_version",
    ),
    path("v1/plan-changes", plans.PlanChangesView.as_view(), name="plan_changes"),
    path("v1/plan-changes/<int:change_id>", plans.PlanChangeView.as_view(), name="plan_change"),
    path(
        "v1/plan-changes/<int:change_id>/decision",
        plans.PlanChangeDecisionView.as_view(),
        name="plan_change_decision",
    ),
    path("v1/workflows/<str:workflow>/health", health.HealthView.as_view(), name="health"),
    path("v1/workflows/<str:workflow>/signals", signals.SignalsView.as_view(), name="signals"),
    path(
        "v1/workflows/<str:workflow>/signals/<str:slug>",
        signals.SignalView.as_view(),
        name="signal",
    ),
    path(
        "v1/workflows/<str:workflow>/segments/match",
        plans.SegmentMatchView.as_view(),
        name="segment_match",
    ),
    path(
        "v1/workflows/<str:workflow>/releases",
        releases.ReleasesView.as_view(),
        name="releases",
    ),
    path(
        "v1/workflows/<str:workflow>/releases/<str:version>",
        releases.ReleaseView.as_view(),
        name="release",
    ),
    path("v1/workflows/<str:workflow>/pulls", pulls.PullsView.as_view(), name="pulls"),
    path("v1/workflows/<str:workflow>/pulls/<str:name>", pulls.PullView.as_view(), name="pull"),
    path(
        "v1/workflows/<str:workflow>/otlp-mapping",
        otlp.SpanMappingView.as_view(),
        name="otlp_mapping",
    ),
    path("v1/price-sheet", otlp.PriceSheetView.as_view(), name="price_sheet"),
    path("v1/traces/<str:trace_id>", otlp.TraceView.as_view(), name="trace"),
    path(
        "v1/workflows/<str:workflow>/comparison",
        releases.ComparisonView.as_view(),
        name="comparison",
    ),
    path("v1/rollouts/<str:slug>/ready", controls.ReadyView.as_view(), name="ready"),
    path("v1/rollouts/<str:slug>/go-live", controls.GoLiveView.as_view(), name="go_live"),
    path("v1/rollouts/<str:slug>/complete", controls.CompleteView.as_view(), name="complete"),
    path("v1/rollouts/<str:slug>/abandon", controls.AbandonView.as_view(), name="abandon"),
    path(
        "v1/rollouts/<str:slug>/containment",
        controls.ContainmentView.as_view(),
        name="containment",
    ),
    path(
        "v1/rollouts/<str:slug>/expansion-requests",
        expansions.ExpansionAskView.as_view(),
        name="expansion_ask",
    ),
    path("v1/expansion-requests", expansions.ExpansionsView.as_view(), name="expansions"),
    path(
        "v1/expansion-requests/<int:request_id>",
        expansions.ExpansionView.as_view(),
        name="expansion",
    ),
    path(
        "v1/expansion-requests/<int:request_id>/decision",
        expansions.ExpansionDecideView.as_view(),
        name="expansion_decide",
    ),
    path(
        "v1/expansion-requests/<int:request_id>/start",
        expansions.ExpansionStartView.as_view(),
        name="expansion_start",
    ),
    path(
        "v1/expansion-requests/<int:request_id>/review",
        expansions.ExpansionReviewView.as_view(),
        name="expansion_review",
    ),
    path("v1/action-requests", action_requests.ActionsView.as_view(), name="actions"),
    path(
        "v1/action-requests/<str:request_id>",
        action_requests.ActionView.as_view(),
        name="action",
    ),
    path(
        "v1/action-requests/<str:request_id>/result",
        action_requests.ActionResultView.as_view(),
        name="action_result",
    ),
    path(
        "v1/inbound/alertmanager", inbound.AlertmanagerView.as_view(), name="inbound_alertmanager"
    ),
    path("v1/inbound/grafana", inbound.GrafanaView.as_view(), name="inbound_grafana"),
    path("v1/inbound/alerts", inbound.OutsideAlertsView.as_view(), name="outside_alerts"),
    path(
        "v1/inbound/alerts/<int:alert_id>/end",
        inbound.OutsideAlertEndView.as_view(),
        name="outside_alert_end",
    ),
    path(
        "v1/workflows/<str:workflow>/inbound-mapping",
        inbound.InboundMappingView.as_view(),
        name="inbound_mapping",
    ),
    path(
        "v1/notifications/subscriptions",
        notifications.SubscriptionsView.as_view(),
        name="subscriptions",
    ),
    path(
        "v1/notifications/subscriptions/<int:subscription_id>",
        notifications.SubscriptionView.as_view(),
        name="subscription",
    ),
    path(
        "v1/notifications/subscriptions/<int:subscription_id>/test",
        notifications.SubscriptionTestView.as_view(),
        name="subscription_test",
    ),
    path(
        "v1/notifications/subscriptions/<int:subscription_id>/secret",
        notifications.SubscriptionSecretView.as_view(),
        name="subscription_secret",
    ),
    path(
        "v1/notifications/deliveries",
        notifications.DeliveriesView.as_view(),
        name="deliveries",
    ),
    path(
        "v1/notifications/deliveries/<int:delivery_id>/replay",
        notifications.DeliveryReplayView.as_view(),
        name="delivery_replay",
    ),
    path("v1/alerts/<int:alert_id>/ack", controls.AlertAckView.as_view(), name="alert_ack"),
    path("v1/alerts/<int:alert_id>/hold", controls.AlertHoldView.as_view(), name="alert_hold"),
    path(
        "v1/alerts/<int:alert_id>/resolve",
        controls.AlertResolveView.as_view(),
        name="alert_resolve",
    ),
    # Whatever else stands under /api/ is answered as a problem too, also while debugging.
    re_path(r"^", docs.nothing_here),
]
