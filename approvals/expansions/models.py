from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint

from approvals.expansions.policy import OPEN, RequestState
from rollout_console.rollouts.models import Rollout

STATES = [state.value for state in RequestState]
OPEN_STATES = sorted(state.value for state in OPEN)


class ExpansionRequest(models.Model):
    """A wider exposure that somebody asks for, with the evidence frozen as it was shown.

    `digest` is of `evidence`; a decision names it. `exposed` lists segments and the shares
    that stage `stage` would expose. `for_break_glass` was asked for before its evidence was
    there: nobody can approve it, and only its requester can start it.
    """

    rollout = models.ForeignKey(
        Rollout, on_delete=models.PROTECT, related_name="expansion_requests"
    )
    from_version = models.PositiveBigIntegerField()
    stage = models.PositiveIntegerField()
    exposed = models.JSONField()
    evidence = models.JSONField()
    digest = models.CharField(max_length=64)
    approvals_needed = models.PositiveSmallIntegerField()
    for_break_glass = models.BooleanField(default=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="expansion_requests"
    )
    at = models.DateTimeField()
    expires_at = models.DateTimeField()
    state = models.CharField(
        max_length=10, choices=[(state, state) for state in STATES], default=RequestState.PENDING
    )
    state_at = models.DateTimeField()
    # Why it is void or expired.
    void_reason = models.TextField(blank=True)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="started_expansions",
    )
    exposure_version = models.PositiveBigIntegerField(null=True)
    # Set where it was started without approval; the review stays open until somebody else did it.
    break_glass_reason = models.TextField(blank=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="reviewed_expansions",
    )
    reviewed_at = models.DateTimeField(null=True)
    review_note = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(name="expansion_by_state", fields=["state", "id"])]
        constraints = [
            UniqueConstraint(
                name="expansion_one_open",
                fields=["rollout"],
                condition=Q(state__in=OPEN_STATES),
                violation_error_message="An expansion of this rollout is already waiting.",
            ),
            CheckConstraint(name="expansion_state_known", condition=Q(state__in=STATES)),
            CheckConstraint(
                name="expansion_approvals_known", condition=Q(approvals_needed__in=[1, 2])
            ),
            CheckConstraint(
                name="expansion_started_by_somebody",
                condition=~Q(state="started") | Q(started_by__isnull=False),
            ),
            CheckConstraint(
                name="expansion_break_glass_by_requester",
                condition=Q(break_glass_reason="") | Q(started_by=F("requested_by")),
                violation_error_message="Only who asked for it breaks the glass.",
            ),
            CheckConstraint(
                name="expansion_reviewed_by_another",
                condition=Q(reviewed_by__isnull=True) | ~Q(reviewed_by=F("requested_by")),
                violation_error_message="Someone other than the requester must review.",
            ),
        ]

    def __str__(self) -> str:
        return f"expansion {self.pk}"

    @property
    def broke_glass(self) -> bool:
        return bool(self.break_glass_reason)


class Decision(models.Model):
    """One person's word on a request, with the digest of what that person was shown."""

    request = models.ForeignKey(
        ExpansionRequest, on_delete=models.CASCADE, related_name="decisions"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="expansion_decisions"
    )
    # Copied from the request, so that the database can hold the second-person rule.
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    decision = models.CharField(
        max_length=7, choices=[("approve", "approve"), ("reject", "reject")]
    )
    reason = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    decided_at = models.DateTimeField()

    class Meta:
        constraints = [
            UniqueConstraint(
                name="decision_once_per_person",
                fields=["request", "person"],
                violation_error_message="You have decided this request already.",
            ),
            CheckConstraint(
                name="decision_second_person",
                condition=~Q(person=F("requested_by")),
                violation_error_message="Someone other than the requester must decide.",
            ),
            CheckConstraint(name="decision_known", condition=Q(decision__in=["approve", "reject"])),
        ]

    def __str__(self) -> str:
        return f"{self.decision} of {self.request_id}"
