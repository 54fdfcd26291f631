"""A workflow's own side: it asks by the OpenFeature SDK's provider from PyPI."""

from collections.abc import Mapping
from typing import Any

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext


class Workflow:
    """Asks one console for the path `draft` of a workflow; an empty answer is none."""

    def __init__(self, url: str, secret: str, *, domain: str) -> None:
        headers = {"Authorization": f"Bearer {secret}", "Rollout-Client": domain}
        api.set_provider_and_wait(
            OFREPProvider(url, headers_factory=lambda: headers), domain=domain
        )
        self._client = api.get_client(domain=domain)

    def ask(self, workflow: str, user: str = "u-1", **context: Any) -> Mapping[str, Any]:
        found: Any = self._client.get_object_value(
            f"{workflow}.draft", {}, EvaluationContext(user, context)
        )
        return found if isinstance(found, Mapping) else {}
