from django.urls import path

from rollout_console.web import (
    alerts,
    audit,
    contain,
    expansions,
    exposure,
    login,
    overview,
    readiness,
    rollouts,
)

app_name = "web"

urlpatterns = [
    path("", overview.exposed_now, name="overview"),
    path("login/", login.log_in, name="login"),
    path("logout/", login.log_out, name="logout"),
    path("rollouts/", rollouts.rollouts, name="rollouts"),
    path("rollouts/<str:slug>/", rollouts.rollout, name="rollout"),
    path("rollouts/<str:slug>/charts.json", rollouts.charts_json, name="charts"),
    path("rollouts/<str:slug>/plan/", rollouts.plan, name="plan"),
    path("rollouts/<str:slug>/plan.yaml", rollouts.plan_yaml, name="plan_yaml"),
    path("readiness/", readiness.waiting, name="waiting"),
    path("rollouts/<str:slug>/readiness/", readiness.readiness, name="readiness"),
    path("rollouts/<str:slug>/ready/", readiness.ready, name="ready"),
    path("rollouts/<str:slug>/go-live/", readiness.go_live, name="go_live"),
    path("rollouts/<str:slug>/contain/<str:action>/", contain.contain, name="contain"),
    path("rollouts/<str:slug>/expand/", expansions.expand, name="expand"),
    path("approvals/", expansions.approvals, name="approvals"),
    path("approvals/expansions/<int:request_id>/", expansions.expansion, name="expansion"),
    path(
        "approvals/expansions/<int:request_id>/decide/",
        expansions.decide,
        name="expansion_decide",
    ),
    path("approvals/expansions/<int:request_id>/start/", expansions.start, name="expansion_start"),
    path(
        "approvals/expansions/<int:request_id>/review/",
        expansions.review,
        name="expansion_review",
    ),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<int:alert_id>/", alerts.alert, name="alert"),
    path("alerts/<int:alert_id>/ack/", alerts.acknowledge, name="alert_ack"),
    path("alerts/<int:alert_id>/hold/", alerts.hold, name="alert_hold"),
    path("alerts/<int:alert_id>/resolve/", alerts.resolve, name="alert_resolve"),
    path("exposure/", exposure.versions, name="exposure"),
    path("exposure/<int:number>/", exposure.version, name="exposure_version"),
    path("exposure/at/", exposure.at, name="exposure_at"),
    path("audit/", audit.audit, name="audit"),
]
