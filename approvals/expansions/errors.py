"""Refusals of expansion requests."""

from rollout_console.core.errors import DomainError


class ExpansionBlocked(DomainError):
    """Something that must hold before exposure widens does not; `missing` says each."""

    code = "expansion-blocked"
    title = "Exposure cannot widen now"


class ExpansionClosed(DomainError):
    """The request is rejected, void, expired or started; `state` says which."""

    code = "expansion-closed"
    title = "This request is closed"


class ExpansionNotApproved(DomainError):
    code = "expansion-not-approved"
    title = "This request is not approved"


class EvidenceChanged(DomainError):
    """The digest is not of the evidence that the request froze."""

    code = "evidence-changed"
    title = "This is not the evidence that was asked on"


class AlreadyDecided(DomainError):
    code = "already-decided"
    title = "You decided this already"


class NotToReview(DomainError):
    code = "nothing-to-review"
    title = "There is nothing to review"
