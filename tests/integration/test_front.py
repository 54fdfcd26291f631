import threading
from typing import Any

import pytest
from django.db import OperationalError

from rollout_console.api.bare.front import Front, Route
from rollout_console.api.bare.http import (
    BodyTooLarge,
    BodyUnreadable,
    Request,
    Response,
    json_response,
)
from rollout_console.core.errors import DomainError
from tests.bare import Caller, behind, environ


def hello(request: Request) -> Response:
    return json_response(200, {"hello": request.params.get("name", "all")})


def caller(*routes: Route, **options: Any) -> Caller:
    return Caller(Front(routes, behind, **options))


def test_a_bare_route_is_answered_and_the_rest_is_djangos() -> None:
    call = caller(Route("GET", "/hello", hello), Route("GET", "/hello/{name}", hello))

    assert call("GET", "/hello") == b'{"hello":"all"}'
    assert call("GET", "/hello/ann.b") == b'{"hello":"ann.b"}'
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["Content-Length"] == "17"
    assert call("GET", "/hello/ann/more") == b"django"
    assert call("GET", "/hello/") == b"django"
    assert call("GET", "/") == b"django"


def test_a_path_in_other_letters_arrives_as_text() -> None:
    call = caller(Route("GET", "/hello/{name}", hello))

    body = call("GET", "/hello/\u00e9".encode().decode("latin-1"))

    assert body.decode() == '{"hello":"\u00e9"}'


def test_another_method_is_405_and_names_what_it_takes() -> None:
    call = caller(Route("POST", "/hello", hello))

    body = call("GET", "/hello")

    assert call.status == "405 Method Not Allowed"
    assert call.headers["Allow"] == "POST"
    assert b"/problems/method-not-allowed" in body


class Refused(DomainError):
    code = "no"
    title = "No"
    status = 409


def test_a_refusal_is_a_problem_document() -> None:
    def refuse(request: Request) -> Response:
        raise Refused("Not now.", waits_for=["owner"])

    call = caller(Route("GET", "/x", refuse))

    body = call("GET", "/x")

    assert call.status == "409 Conflict"
    assert call.headers["Content-Type"] == "application/problem+json"
    assert body == (
        b'{"type":"/problems/no","title":"No","status":409,"detail":"Not now.",'
        b'"instance":"/x","waits_for":["owner"]}'
    )


def test_a_bug_is_500_with_an_id_and_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> Response:
        raise KeyError("secret detail")

    call = caller(Route("GET", "/x", broken))

    body = call("GET", "/x")

    assert call.status == "500 Internal Server Error"
    assert b"secret detail" not in body
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    error_id = body.partition(b'"error_id":"')[2][:32].decode()
    assert len(error_id) == 32
    assert error_id in str(logged.msg)


def test_a_database_that_is_away_is_503_with_retry_after() -> None:
    def away(request: Request) -> Response:
        raise OperationalError("connection refused")

    call = caller(Route("GET", "/x", away))

    call("GET", "/x")

    assert call.status == "503 Service Unavailable"
    assert call.headers["Retry-After"] == "1"


def test_ingest_is_bounded_and_the_rest_goes_on(settings: Any) -> None:
    settings.WEB_INGEST_SLOTS = 1
    inside, leave = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        inside.set()
        assert leave.wait(10)
        return Response(202)

    app = Front([Route("POST", "/runs", slow, limited=True), Route("GET", "/hello", hello)], behind)
    first, second = Caller(app), Caller(app)
    holder = threading.Thread(target=first, args=("POST", "/runs"))
    holder.start()
    assert inside.wait(10)

    second("POST", "/runs")
    assert (second.status, second.headers["Retry-After"]) == ("503 Service Unavailable", "1")
    assert second("GET", "/hello") == b'{"hello":"all"}'

    leave.set()
    holder.join(10)
    assert first.status == "202 Accepted"
    second("POST", "/runs")
    assert second.status == "202 Accepted"


def test_what_serving_needs_starts_with_the_first_request_and_once() -> None:
    started: list[int] = []
    call = caller(Route("GET", "/hello", hello), start=lambda: started.append(1))
    assert started == []

    call("GET", "/hello")
    call("GET", "/")

    assert started == [1]


def test_requests_beside_the_first_wait_until_serving_has_started() -> None:
    starting, go_on = threading.Event(), threading.Event()
    ready: list[bool] = []

    def start() -> None:
        starting.set()
        assert go_on.wait(10)
        ready.append(True)

    def needs_start(request: Request) -> Response:
        return json_response(200, list(ready))

    app = Front([Route("GET", "/x", needs_start)], behind, start=start)
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(Caller(app)("GET", "/x"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert starting.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert answers == [b"[true]"] * 3


def read(body: bytes, limit: int, **extra: Any) -> bytes:
    return Request(environ("POST", "/", body, **extra)).body(limit)


def test_bodies_are_read_up_to_the_limit() -> None:
    assert read(b"12345", 5) == b"12345"
    with pytest.raises(BodyTooLarge):
        read(b"123456", 5)
    # Chunked: no length was stated.
    assert read(b"12345", 5, CONTENT_LENGTH="") == b"12345"
    with pytest.raises(BodyTooLarge):
        read(b"123456", 5, CONTENT_LENGTH="")


@pytest.mark.parametrize("stated", ["-1", "five", "6", "1e3", " 5"])
def test_a_length_that_lies_is_refused(stated: str) -> None:
    with pytest.raises(BodyUnreadable):
        read(b"12345", 100, CONTENT_LENGTH=stated)
