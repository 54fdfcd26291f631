"""What a context gets out of one exposure version; `openfeature-flagd-core` decides."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import msgspec
import structlog
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import Reason

from rollout_console.core.canonical import canonical_json

log = structlog.get_logger()

# Bucketing differs between generations of flagd's evaluators, so the one in use is named.
FRACTIONAL: Final = f"openfeature-flagd-core {version('openfeature-flagd-core')} (Python, CBOR)"

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision as OFREP's success body, ready to send."""

    key: str
    variant: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no decision; `code` is one of OFREP's."""

    key: str
    code: str
    detail: str

    @property
    def body(self) -> bytes:
        return _encode({"key": self.key, "errorCode": self.code, "errorDetails": self.detail})


class Snapshot:
    """One exposure version, evaluated by any thread; nothing in it changes after it is made."""

    def __init__(
        self, *, number: int, document: Mapping[str, Any], workflow_ids: Mapping[str, int]
    ) -> None:
        """Take a numbered document, and the ids of the workflows by slug."""
        self.number = number
        self._document = document
        self._workflow_id = {
            key: workflow_ids.get(flag["metadata"]["workflow"])
            for key, flag in document["flags"].items()
        }
        self._core = FlagdCore()
        # As text: the evaluator changes a dict that it is given.
        self._core.set_flags(_encode(document).decode())
        self._bodies = {
            (key, variant): _success(key, flag, variant, value, document["metadata"])
            for key, flag in document["flags"].items()
            for variant, value in flag["variants"].items()
        }
        self._documents: dict[frozenset[int] | None, bytes] = {}

    def keys(self, reaches: Callable[[int | None], bool]) -> list[str]:
        """Return the keys of the workflows that the caller reaches, sorted."""
        return sorted(key for key, pk in self._workflow_id.items() if reaches(pk))

    def holds(self, key: str, reaches: Callable[[int | None], bool]) -> bool:
        return key in self._workflow_id and reaches(self._workflow_id[key])

    def decide(
        self, key: str, *, targeting_key: str | None, attributes: Mapping[str, Any]
    ) -> Answer | Failure:
        """Return what this context gets on the path `key`, which must be held."""
        context = EvaluationContext(targeting_key=targeting_key, attributes=attributes)
        try:
            details = self._core.resolve_object_value(key, {}, context)
        except Exception:
            # A segment's rule met a context that it cannot be applied to. Whatever the rule
            # interpreter raises, it is this flag's failure alone.
            log.info("exposure.rule_failed", flag=key, exc_info=True)
            return Failure(key, "GENERAL", "A segment's rule cannot be applied to this context.")
        variant = details.variant
        if details.reason == Reason.DEFAULT or variant is None:
            detail = "A share of this segment is exposed: send the user or account as targetingKey."
            return Failure(key, "TARGETING_KEY_MISSING", detail)
        return Answer(key, variant, self._bodies[key, variant])

    def document_bytes(self, workflow_ids: frozenset[int] | None) -> bytes:
        """Return the document, canonical, cut to these workflows (None: all)."""
        found = self._documents.get(workflow_ids)
        if found is None:
            found = canonical_json(self._cut(workflow_ids))
            self._documents[workflow_ids] = found
        return found

    def _cut(self, workflow_ids: Iterable[int] | None) -> Mapping[str, Any]:
        if workflow_ids is None:
            return self._document
        wanted = set(workflow_ids)
        flags = self._document["flags"]
        return {
            **self._document,
            "flags": {k: v for k, v in flags.items() if self._workflow_id[k] in wanted},
        }


def _success(
    key: str,
    flag: Mapping[str, Any],
    variant: str,
    value: Mapping[str, Any],
    shared_metadata: Mapping[str, Any],
) -> bytes:
    metadata = {**shared_metadata, **flag["metadata"]}
    if value["segment"] is not None:
        metadata["segment"] = value["segment"]
    return _encode(
        {
            "key": key,
            "reason": "TARGETING_MATCH" if flag.get("targeting") else "STATIC",
            "variant": variant,
            "value": value,
            "metadata": metadata,
        }
    )
