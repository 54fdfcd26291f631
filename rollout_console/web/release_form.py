"""The form that registers a release: what was posted into the API's body, and back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rollout_console.rollouts.plan_schema import COMPONENTS

# What a person types by hand; a pipeline sends up to 200 over the API.
ROWS_MAX: Final = 40
KEYS: Final = ("component", "name", "before", "after", "note")
SOURCE: Final = (
    ("repository", "Repository"),
    ("commit", "Commit"),
    ("url", "Link"),
)


@dataclass(frozen=True, slots=True)
class ChangeInput:
    """A row of the form as typed, and what is wrong with it by field; "" is the row itself."""

    component: str = "prompt"
    name: str = ""
    before: str = ""
    after: str = ""
    note: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def blank(self) -> bool:
        return not (self.name or self.before or self.after or self.note)


@dataclass(frozen=True, slots=True)
class ReleaseForm:
    """The whole form as typed. `focus` is the row that was just added, -1 for none."""

    version: str = ""
    rows: list[ChangeInput] = field(default_factory=lambda: [ChangeInput()])
    source: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    focus: int = -1

    @property
    def components(self) -> Sequence[str]:
        return COMPONENTS

    @property
    def full(self) -> bool:
        return len(self.rows) >= ROWS_MAX

    @property
    def sources(self) -> list[tuple[str, str, str, str]]:
        """Name, label, value and error of each field of the source."""
        return [
            (key, label, self.source.get(key, ""), self.errors.get(f"/source/{key}", ""))
            for key, label in SOURCE
        ]


def form_read(posted: Mapping[str, str]) -> ReleaseForm:
    """Return what was typed; line ends become those that the API gets from pipelines."""
    count = posted.get("rows", "")
    rows = []
    for index in range(min(int(count[:3]) if count.isascii() and count.isdigit() else 0, ROWS_MAX)):
        component, name, before, after, note = (_text(posted, f"{index}:{key}") for key in KEYS)
        rows.append(ChangeInput(component, name.strip(), before, after, note))
    return ReleaseForm(
        version=_text(posted, "version").strip(),
        rows=rows,
        source={key: _text(posted, f"source:{key}").strip() for key, _ in SOURCE},
    )


def rows_changed(form: ReleaseForm, todo: str) -> ReleaseForm:
    """Return the form after its button `add`, `remove:N` or `up:N`."""
    verb, _, which = todo.partition(":")
    rows = list(form.rows)
    index = int(which[:3]) if which.isascii() and which.isdigit() else -1
    focus = -1
    if verb == "add" and len(rows) < ROWS_MAX:
        focus = len(rows)
        rows.append(ChangeInput(component=rows[-1].component if rows else "prompt"))
    elif verb == "remove" and 0 <= index < len(rows):
        del rows[index]
        focus = min(index, len(rows) - 1)
    elif verb == "up" and 0 < index < len(rows):
        rows[index - 1 : index + 1] = [rows[index], rows[index - 1]]
        focus = index - 1
    return ReleaseForm(form.version, rows, form.source, focus=focus)


def body_of(form: ReleaseForm) -> dict[str, Any]:
    """Return what the form says as the API's body; rows without a word are left out."""
    changes = [
        {key: value for key in KEYS if (value := getattr(row, key))}
        for row in form.rows
        if not row.blank
    ]
    source = {key: value for key, value in form.source.items() if value}
    return {"changes": changes, "source": source}


def with_errors(form: ReleaseForm, errors: Sequence[Mapping[str, Any]]) -> ReleaseForm:
    """Return the form with each error of the service at the field that it is about."""
    # Blank rows were not sent, so the service counts without them.
    places = [index for index, row in enumerate(form.rows) if not row.blank]
    found: dict[str, str] = {}
    by_row: dict[int, dict[str, str]] = {}
    for error in errors:
        pointer, detail = str(error["pointer"]), str(error["detail"])
        head, _, rest = pointer.removeprefix("/changes/").partition("/")
        if pointer.startswith("/changes/") and head.isdigit() and int(head) < len(places):
            by_row.setdefault(places[int(head)], {})[rest] = detail
        else:
            found[pointer] = detail
    rows = [
        ChangeInput(row.component, row.name, row.before, row.after, row.note, by_row.get(index, {}))
        for index, row in enumerate(form.rows)
    ]
    return ReleaseForm(form.version, rows, form.source, found)


def _text(posted: Mapping[str, str], name: str) -> str:
    return posted.get(name, "").replace("\r\n", "\n").replace("\x00", "")
