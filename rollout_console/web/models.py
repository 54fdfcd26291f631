from django.db import models


class LoginFailure(models.Model):
    """A failed log-in, kept a few minutes so that guessing can be slowed down."""

    username = models.CharField(max_length=150)
    address = models.CharField(max_length=45)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(name="login_failure_by_name", fields=["username", "at"]),
            models.Index(name="login_failure_by_address", fields=["address", "at"]),
        ]

    def __str__(self) -> str:
        return f"{self.username} {self.at}"
