"""A page's form as a browser without scripts sends it."""

from html.parser import HTMLParser


class _Reader(HTMLParser):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.inside = False
        self.found: list[tuple[str, str]] = []
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._area: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.inside = held.get("id") == self.form
        if not (self.inside or held.get("form") == self.form) and tag != "option":
            return
        name = held.get("name", "")
        if tag == "input" and name:
            box = held.get("type") in ("checkbox", "radio")
            if not box or "checked" in held:
                self.found.append((name, held.get("value", "on" if box else "")))
        elif tag == "select":
            self._select, self._options = name, []
        elif tag == "option" and self._select is not None:
            self._options.append((held.get("value", ""), "selected" in held))
        elif tag == "textarea":
            self._area, self._text = name, ""

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False
        elif tag == "select" and self._select is not None:
            chosen = [value for value, selected in self._options if selected]
            first = [value for value, _ in self._options[:1]]
            self.found += [(self._select, value) for value in (chosen or first)[-1:]]
            self._select = None
        elif tag == "textarea" and self._area is not None:
            # The first line break behind the tag is the markup's; the others are sent as CRLF.
            text = self._text.removeprefix("\n").replace("\n", "\r\n")
            self.found.append((self._area, text))
            self._area = None


def form_of(html: str, form: str) -> dict[str, list[str]]:
    """Return what the form with this id would post, buttons apart."""
    reader = _Reader(form)
    reader.feed(html)
    made: dict[str, list[str]] = {}
    for name, value in reader.found:
        made.setdefault(name, []).append(value)
    return made
