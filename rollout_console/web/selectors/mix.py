"""The exposed mix as pages show it: what the exposed set cannot show, and every comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rollout_console.rollouts.exposed_mix import PathMix, exposed_mixes
from rollout_console.rollouts.mix import AttributeMix, Part, Standing, attribute_name
from rollout_console.rollouts.models import Rollout
from rollout_console.web.selectors.economics import Number
from rollout_console.web.words import Shown, share_text
from signals.format import MISSING

STANDINGS: Final[dict[Standing, Shown]] = {
    "shown": Shown("Shown", "ok", "ok"),
    "rare": Shown("Rare here", "watch", "watch"),
    "missing": Shown("Missing here", "watch", "watch"),
    "unseen": Shown("Not seen yet", "none", "none"),
    "untold": Shown("Not said here", "none", "none"),
}
_PROTECTED: Final = Shown("Too protected", "watch", "watch")
_LIKE: Final = Shown("Nothing common is missing", "ok", "ok")
_OPEN: Final = Shown("Too early to tell", "none", "none")
_NOTHING: Final = Shown("Not enough data", "none", "none")


@dataclass(frozen=True, slots=True)
class GapRow:
    title: str
    shown: Shown
    sentence: str


@dataclass(frozen=True, slots=True)
class ValueRow:
    value: str
    shown: Shown
    exposed: Number
    others: Number


@dataclass(frozen=True, slots=True)
class AttributeTable:
    attribute: str
    name: str
    note: str
    rows: list[ValueRow]


@dataclass(frozen=True, slots=True)
class MixCard:
    """One path: its gaps, and how many tasks both sides stand on. `kind` names the exposed ones."""

    path: str
    name: str
    kind: str
    since: datetime
    until: datetime
    exposed: int
    others: int
    shown: Shown
    gaps: list[GapRow]
    tables: list[AttributeTable]
    unsaid: list[str]


def mix_cards(rollout: Rollout, *, now: datetime) -> list[MixCard]:
    """Return the mix of each of a rollout's paths as it is now."""
    return [_card(mix) for mix in exposed_mixes(rollout, now=now)]


def mix_findings(cards: Sequence[MixCard]) -> list[tuple[str, str]]:
    """Return a finding for each path whose exposed set is too protected: a title, a sentence."""
    return [
        (
            _PROTECTED.word,
            f"On “{card.path}” {len(sure)} thing{'s' * (len(sure) != 1)} common elsewhere"
            f" {'is' if len(sure) == 1 else 'are'} missing or rare in the {card.kind} set."
            f" First: {sure[0].sentence}",
        )
        for card in cards
        if (sure := [gap for gap in card.gaps if gap.shown.hue == _PROTECTED.hue])
    ]


def mix_frozen(evidence: Mapping[str, Any]) -> list[MixCard]:
    """Return the mixes of an evidence pack; packs older than the mix hold none."""
    return [
        MixCard(
            path=each["path"],
            name=each["name"],
            kind="first-stage" if each["planned"] else "exposed",
            since=datetime.fromisoformat(each["since"]),
            until=datetime.fromisoformat(each["until"]),
            exposed=each["exposed"],
            others=each["others"],
            shown=_shown(
                [gap["sure"] for gap in each["gaps"]],
                bool(each["exposed"] and each["others"]),
            ),
            gaps=[
                _gap(gap["attribute"], gap["value"], gap["standing"], gap["sentence"])
                for gap in each["gaps"]
            ],
            tables=[],
            unsaid=[],
        )
        for each in evidence.get("mix", [])
    ]


def _card(mix: PathMix) -> MixCard:
    kind = "first-stage" if mix.planned else "exposed"
    return MixCard(
        path=mix.path,
        name=mix.name,
        kind=kind,
        since=mix.since,
        until=mix.until,
        exposed=mix.exposed,
        others=mix.others,
        shown=_shown([gap.sure for gap in mix.gaps], bool(mix.exposed and mix.others)),
        gaps=[_gap(gap.attribute, gap.value, gap.standing, gap.sentence) for gap in mix.gaps],
        tables=[_table(each, kind) for each in mix.attributes if each.values],
        unsaid=[attribute_name(each.attribute) for each in mix.attributes if not each.values],
    )


def _shown(sure: Sequence[bool], compared: bool) -> Shown:
    if not compared:
        return _NOTHING
    if any(sure):
        return _PROTECTED
    return _OPEN if sure else _LIKE


def _gap(attribute: str, value: str, standing: Standing, sentence: str) -> GapRow:
    title = attribute_name(attribute)
    if standing != "untold":
        title = f"{title}: {value}"
    return GapRow(title, STANDINGS[standing], sentence)


def _table(mix: AttributeMix, kind: str) -> AttributeTable:
    first = mix.values[0]
    note = (
        f"said by {first.exposed.of:,} of {mix.exposed_of:,} {kind} and {first.others.of:,} of"
        f" {mix.others_of:,} other tasks"
    )
    if mix.distance is not None:
        note += f" · the mixes differ by {mix.distance * 100:.0f} of 100 tasks"
    return AttributeTable(
        attribute=mix.attribute,
        name=attribute_name(mix.attribute),
        note=note,
        rows=[
            ValueRow(
                value=each.value,
                shown=STANDINGS[each.standing],
                exposed=_part(each.exposed),
                others=_part(each.others),
            )
            for each in mix.values
        ],
    )


def _part(part: Part) -> Number:
    if part.low is None or part.high is None:
        return Number(MISSING, "", "n 0")
    low = share_text(part.low).removesuffix(" %")
    return Number(
        value=share_text(part.share),
        range=f"{low}\N{EN DASH}{share_text(part.high)}",
        n=f"{part.n:,} of {part.of:,}",
    )
