from functools import cached_property

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from rollout_console.catalog.models import Workflow
from signals.catalogue import Signal
from signals.definition import Definition, definition_of, signal_made


class OwnSignal(models.Model):
    """A version of a signal that a team defined; a guard keeps the one that it was made with.

    A definition never changes in place: a new version is a new row and the old one retires.
    `document` is the definition as `signals.definition` writes it.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="own_signals")
    slug = models.CharField(max_length=80)
    version = models.PositiveIntegerField(default=1)
    document = models.JSONField()
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "own_signal"
        constraints = [
            UniqueConstraint(
                name="own_signal_version_once", fields=["workflow", "slug", "version"]
            ),
            UniqueConstraint(
                name="own_signal_current_once",
                fields=["workflow", "slug"],
                condition=Q(retired_at=None),
                violation_error_message="The workflow has a signal of this slug already.",
            ),
            CheckConstraint(name="own_signal_version_counts", condition=Q(version__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.version}"

    @cached_property
    def definition(self) -> Definition:
        return definition_of(self.document)

    @cached_property
    def signal(self) -> Signal:
        return signal_made(self.definition)
