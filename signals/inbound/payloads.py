"""What Alertmanager (version 4) and Grafana post, read into alerts. Pure.

Both send groups of alerts of one shape; Grafana's has members beside it that are not needed here.
Unknown members are left alone: both products add some with every release.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

ALERTS_MAX: Final = 1000
LABELS_MAX: Final = 100
TEXT_MAX: Final = 2000
NAME_MAX: Final = 200
FINGERPRINT_MAX: Final = 100
# What Grafana names an alert that its rule makes when it has nothing to judge by.
NO_DATA: Final = frozenset({"DatasourceNoData", "DatasourceError"})
# Where Grafana says that an alert is over only because its series are gone.
STATE_REASON: Final = "grafana_state_reason"
VERSIONS: Final[Mapping[str, str]] = {"alertmanager": "4", "grafana": "1"}

Fault = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InboundAlert:
    """One alert of a group. `is_no_data`: the other system says that it knows nothing."""

    index: int
    name: str
    summary: str
    labels: Mapping[str, str]
    link: str
    fingerprint: str
    started_at: datetime
    is_firing: bool
    is_no_data: bool = False
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class InboundBatch:
    """What could be read of a body: its alerts, faults by alert, and how many were cut off."""

    alerts: list[InboundAlert] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    truncated: int = 0


def batch_read(document: Any, *, source: str) -> InboundBatch:
    """Return the alerts that a body holds; what is wrong stands in `faults`, by pointer."""
    if not isinstance(document, dict):
        return InboundBatch(faults=[_fault(None, "", "Send the object that the product sends.")])
    version = VERSIONS[source]
    if document.get("version", version) != version:
        detail = f"Only version “{version}” of this webhook is read here."
        return InboundBatch(faults=[_fault(None, "/version", detail)])
    told = document.get("alerts")
    if not isinstance(told, list) or len(told) > ALERTS_MAX:
        detail = f"`alerts` is a list of at most {ALERTS_MAX:,} alerts."
        return InboundBatch(faults=[_fault(None, "/alerts", detail)])
    batch = InboundBatch(truncated=_count(document.get("truncatedAlerts")))
    for index, each in enumerate(told):
        faults: list[Fault] = []
        alert = _alert_read(each, index, faults)
        if alert is not None and not faults:
            batch.alerts.append(alert)
        batch.faults.extend(faults)
    return batch


def _alert_read(told: Any, index: int, faults: list[Fault]) -> InboundAlert | None:
    at = f"/alerts/{index}"
    if not isinstance(told, dict):
        faults.append(_fault(index, at, "An alert is an object."))
        return None
    labels = _texts(told.get("labels"), f"{at}/labels", index, faults)
    annotations = _texts(told.get("annotations", {}), f"{at}/annotations", index, faults)
    status = told.get("status")
    if status not in ("firing", "resolved"):
        faults.append(_fault(index, f"{at}/status", "One of: firing, resolved."))
    started_at = _time(told.get("startsAt"))
    if started_at is None:
        faults.append(_fault(index, f"{at}/startsAt", "A time: RFC 3339 with an offset."))
    fingerprint = told.get("fingerprint") or _fingerprint(labels)
    if (
        not isinstance(fingerprint, str)
        or not 0 < len(fingerprint) <= FINGERPRINT_MAX
        or "\0" in fingerprint
    ):
        detail = f"Text of at most {FINGERPRINT_MAX} characters without NUL."
        faults.append(_fault(index, f"{at}/fingerprint", detail))
    if faults or started_at is None:
        return None
    name = labels.get("alertname", "")
    is_no_data = name in NO_DATA
    # Made for the rule that had no data; its own name says more.
    shown = f"{labels.get('rulename', '')} ({name})".strip() if is_no_data else name
    link = told.get("generatorURL")
    is_link = (
        isinstance(link, str) and link.startswith(("http://", "https://")) and "\0" not in link
    )
    return InboundAlert(
        index=index,
        name=(shown or "an alert without a name")[:NAME_MAX],
        summary=(annotations.get("summary") or annotations.get("description") or "")[:TEXT_MAX],
        labels=labels,
        link=str(link)[:TEXT_MAX] if is_link else "",
        fingerprint=fingerprint,
        started_at=started_at,
        is_firing=status == "firing",
        is_no_data=is_no_data,
        is_silent=status == "resolved" and bool(annotations.get(STATE_REASON)),
    )


def _texts(told: Any, pointer: str, index: int, faults: list[Fault]) -> dict[str, str]:
    if (
        isinstance(told, dict)
        and len(told) <= LABELS_MAX
        and all(isinstance(value, str) and "\0" not in key + value for key, value in told.items())
    ):
        return {key: value[:TEXT_MAX] for key, value in told.items()}
    detail = f"An object of at most {LABELS_MAX} texts."
    faults.append(_fault(index, pointer, detail))
    return {}


def _time(told: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(told) if isinstance(told, str) else None
        # The zero time is how Go writes none.
        if found is None or found.tzinfo is None or found.year < 1970:
            return None
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _fingerprint(labels: Mapping[str, str]) -> str:
    """Return an alert's identity where its sender is too old to say one: that of its labels."""
    text = json.dumps(sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _count(told: Any) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0


def _fault(index: int | None, pointer: str, detail: str) -> Fault:
    where = {} if index is None else {"index": index}
    return {**where, "pointer": pointer, "detail": detail}
