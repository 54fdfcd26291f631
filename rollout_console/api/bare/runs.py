"""Reports from workflows: accept batches of runs or observations, and say what became of one."""

from uuid import UUID

from django.utils import timezone

from approvals.authority.matrix import Scope
from approvals.authority.principals import NotAllowed, Principal
from rollout_console.api.bare.auth import authenticate
from rollout_console.api.bare.http import Request, Response, json_response
from rollout_console.core.errors import NotFound
from signals.ingest.framing import MAX_UNPACKED
from signals.ingest.models import BatchKind
from signals.ingest.selectors import batch_document
from signals.ingest.services import batch_store


def post_runs(request: Request) -> Response:
    """Answer 202 once the batch is durable, whatever was wrong with single items."""
    return _post(request, BatchKind.RUNS)


def post_observations(request: Request) -> Response:
    """Likewise for what was learned about runs later."""
    return _post(request, BatchKind.OBSERVATIONS)


def _post(request: Request, kind: BatchKind) -> Response:
    principal = authenticate(request, Scope.INGEST)
    receipt = batch_store(
        body=request.body(MAX_UNPACKED),
        content_type=request.header("Content-Type"),
        content_encoding=request.header("Content-Encoding"),
        principal=principal,
        now=timezone.now(),
        kind=kind,
    )
    return json_response(202, receipt.document())


def get_batch(request: Request) -> Response:
    """Answer the batch's state and what the drain found; scope `ingest` or `read`."""
    principal = _reader(request)
    try:
        batch_id = UUID(request.params["batch_id"])
    except ValueError as error:
        raise NotFound("There is no such batch.") from error
    return json_response(200, batch_document(batch_id=batch_id, principal=principal))


def _reader(request: Request) -> Principal:
    try:
        return authenticate(request, Scope.INGEST)
    except NotAllowed:
        return authenticate(request, Scope.READ)
