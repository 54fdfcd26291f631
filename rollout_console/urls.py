"""The map of addresses behind the bare handlers: the API, then the pages."""

from django.urls import include, path

urlpatterns = [
    path("api/", include("rollout_console.api.urls")),
    path("", include("rollout_console.web.urls")),
]

handler404 = "rollout_console.api.problems.not_found_view"
handler500 = "rollout_console.api.problems.failure_view"
