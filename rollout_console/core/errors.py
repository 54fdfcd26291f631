"""Expected refusals, and the RFC 9457 body that machines read."""

from typing import Any, ClassVar


class DomainError(Exception):
    """An expected refusal: what happened and what to do next.

    `detail` is a sentence for people; `facts` become members of the problem document.
    Subclasses are defined where they are raised and set `code`, `title` and `status`.
    """

    code: ClassVar[str] = "refused"
    title: ClassVar[str] = "Not possible"
    status: ClassVar[int] = 409

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class NotFound(DomainError):
    code = "not-found"
    title = "Not found"
    status = 404


class InvalidInput(DomainError):
    """The request cannot be read or does not fit; `errors` point at the items at fault."""

    code = "invalid-input"
    title = "The input does not fit"
    status = 400


def problem(
    *, code: str, title: str, status: int, detail: str, instance: str | None = None, **facts: Any
) -> dict[str, Any]:
    """Return a problem document (RFC 9457); facts are top-level extension members."""
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        body["instance"] = instance
    body.update({key: value for key, value in facts.items() if value is not None})
    return body


def problem_of(error: DomainError, *, instance: str | None = None) -> dict[str, Any]:
    """Return the problem document of a refusal."""
    return problem(
        code=error.code,
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=instance,
        **error.facts,
    )
