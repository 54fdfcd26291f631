"""A mail server that speaks enough SMTP to take a mail, or to refuse its recipient."""

import socketserver
import threading
from email import message_from_bytes
from email.message import Message
from types import TracebackType
from typing import Self


class MailServer:
    """Listens on loopback inside `with`; `refuse` answers 550 to whoever is to get the mail."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.refuse = refuse
        self.mails: list[Message] = []

    def __enter__(self) -> Self:
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            def handle(self) -> None:
                self.say("220 ready")
                for raw in self.rfile:
                    verb = raw[:4].upper()
                    if verb == b"RCPT" and server.refuse:
                        self.say("550 no such person")
                    elif verb == b"DATA":
                        self.say("354 go on")
                        lines = list(iter(self.rfile.readline, b".\r\n"))
                        server.mails.append(message_from_bytes(b"".join(lines)))
                        self.say("250 taken")
                    elif verb == b"QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])
