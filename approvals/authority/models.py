from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from approvals.authority.matrix import Role
from rollout_console.catalog.models import Workflow

ROLES = [role.value for role in Role]


class Membership(models.Model):
    """A person's role in one workflow, or in every workflow where none is named."""

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    workflow = models.ForeignKey(
        Workflow, null=True, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=20, choices=[(role, role) for role in ROLES])

    class Meta:
        constraints = [
            UniqueConstraint(
                name="membership_once",
                fields=["person", "workflow", "role"],
                nulls_distinct=False,
            ),
            CheckConstraint(name="membership_role_known", condition=Q(role__in=ROLES)),
        ]

    def __str__(self) -> str:
        return f"{self.person} {self.role}"


class ApiToken(models.Model):
    """A bearer token, stored hashed. Without a person it is a service account."""

    name = models.CharField(max_length=150, unique=True)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    workflows = models.ManyToManyField(Workflow, blank=True, related_name="tokens")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="tokens"
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name
