from django.urls import path

from rollout_console.web import (
    alerts,
    audit,
    contain,
    login,
    overview,
    plan_editor,
    plans,
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
    path("rollouts/<str:slug>/plan/<str:step>/", plans.rollout_plan_step, name="plan_step"),
    path("rollouts/<str:slug>/ready/", rollouts.ready, name="ready"),
    path("rollouts/<str:slug>/go-live/", rollouts.go_live, name="go_live"),
    path("rollouts/<str:slug>/contain/<str:action>/", contain.contain, name="contain"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<int:alert_id>/", alerts.alert, name="alert"),
    path("alerts/<int:alert_id>/ack/", alerts.acknowledge, name="alert_ack"),
    path("alerts/<int:alert_id>/hold/", alerts.hold, name="alert_hold"),
    path("alerts/<int:alert_id>/resolve/", alerts.resolve, name="alert_resolve"),
    path("plans/", plans.plans, name="plans"),
    path("plans/new/", plan_editor.plan_new, name="plan_first"),
    path("plans/new/<str:step>/", plan_editor.plan_new, name="plan_new"),
    path("plans/<str:workflow>/", plans.plan_workflow, name="plan_workflow"),
    path("plans/<str:workflow>/plan.yaml", plans.plan_file, name="plan_file"),
    path("plans/<str:workflow>/history/", plans.plan_history, name="plan_history"),
    path("plans/<str:workflow>/edit/", plan_editor.plan_edit, name="plan_open"),
    path("plans/<str:workflow>/edit/<str:step>/", plan_editor.plan_edit, name="plan_edit"),
    path("plans/<str:workflow>/changes/<int:change_id>/", plans.plan_change, name="plan_change"),
    path("audit/", audit.audit, name="audit"),
]
