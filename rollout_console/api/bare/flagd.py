"""The exposure document itself, for flagd's HTTP sync."""

import hashlib

from approvals.authority.matrix import Scope
from rollout_console.api.bare.auth import authenticate
from rollout_console.api.bare.http import JSON, Request, Response
from rollout_console.api.bare.ofrep import loaded, matches


def get_flags(request: Request) -> Response:
    """Answer the document of the caller's workflows; 503 while there is none, never an empty 200.

    flagd reads an empty 200 as «all flags deleted».
    """
    principal = authenticate(request, Scope.EVALUATE)
    body = loaded().document_bytes(principal.workflow_ids)
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers = [("ETag", etag), ("Cache-Control", "no-cache")]
    if matches(request.header("If-None-Match"), etag):
        return Response(304, b"", headers)
    return Response(200, body, [("Content-Type", JSON), *headers])
