"""A signal as a team defines it: what feeds it and what is made of that. Pure: no Django.

`signal_made` turns a definition into a `Signal`, which charts and guards read like any other.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from signals.catalogue import Better, Kind, Reach, Signal, Source
from signals.feeds import Feed
from signals.ingest.observations import VALUES, VERDICTS
from signals.ingest.rows import OUTCOMES

# What may be made of each feed; the first is the usual one.
KINDS_OF: Final[dict[str, tuple[Kind, ...]]] = {
    "measure": ("mean", "quantile", "rate"),
    "outcome": ("rate", "count"),
    "evaluation": ("rate", "mean"),
    "feedback": ("rate", "count"),
    "review": ("rate",),
}
# What the words of a feed may be.
WORDS_OF: Final[dict[str, tuple[str, ...]]] = {
    "outcome": tuple(OUTCOMES),
    "feedback": tuple(VALUES),
    "review": tuple(VERDICTS),
}

# Whose tasks each feed is read of: what people say is about whatever they were served.
_REACH: Final[dict[str, Reach]] = {
    "measure": "normal",
    "outcome": "normal",
    "evaluation": "normal",
    "feedback": "arm",
    "review": "arm",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A team's own signal; `q` is for quantiles, `above` for the rate of a measure over it.

    `per_task` spreads a measure's sum over all tasks, those that did not report it included.
    """

    slug: str
    name: str
    title: str
    phrase: str
    unit: str
    kind: Literal["rate", "mean", "quantile", "count"]
    better: Better
    feed: Feed
    q: float | None = None
    above: float | None = None
    per_task: bool = False

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What a guard stands on: all but the words that it is shown with."""
        return (
            self.unit,
            self.kind,
            self.better,
            self.feed,
            self.q,
            self.above,
            self.per_task,
        )


def definition_document(definition: Definition) -> dict[str, Any]:
    """Return a definition as JSON; `definition_of` reads it back as the same value."""
    return asdict(definition)


def definition_of(document: dict[str, Any]) -> Definition:
    """Return the definition that a document holds."""
    feed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list | tuple) else value
        for key, value in document["feed"].items()
    }
    return Definition(**{**document, "feed": Feed(**feed)})


def signal_made(definition: Definition) -> Signal:
    """Return the signal that charts and guards read."""
    feed = definition.feed
    source, n_of, total_of, also = _read_by(definition)
    return Signal(
        definition.slug,
        definition.name,
        definition.title,
        definition.phrase,
        definition.kind,
        definition.unit,
        definition.better,
        source=source,
        n_of=n_of,
        total_of=total_of,
        also=also,
        q=definition.q or 0.0,
        above=definition.above,
        reach=_REACH[feed.kind],
        counted="reviews" if feed.kind == "review" else "tasks",
        by_event=feed.kind == "feedback",
        feed=feed if feed.apart else None,
        own=True,
    )


def _read_by(definition: Definition) -> tuple[Source, str, str, tuple[str, ...]]:
    """Return the source and the fields of `Measures` beside the feed's own part.

    An empty count means that the part itself says how many tasks reported it.
    """
    feed = definition.feed
    match feed.kind:
        case "measure":
            n_of = "n" if definition.per_task else ""
            if definition.kind == "quantile":
                return "quantile", n_of, "", ()
            return ("above_share" if definition.kind == "rate" else "mean"), n_of, "", ()
        case "evaluation":
            return ("share" if definition.kind == "rate" else "mean"), "", "", ()
        case "review":
            # The ledger counts edited and rejected ones; approved are all the others.
            if "approved" in feed.words:
                told = tuple(word for word in VERDICTS if word not in feed.words)
                return "missing_share", "reviews_n", f"reviews_{told[0]}", _reviews(told[1:])
            return "share", "reviews_n", f"reviews_{feed.words[0]}", _reviews(feed.words[1:])
        case _:
            source: Source = "count" if definition.kind == "count" else "share"
            outcomes = tuple(f"n_{word}" for word in feed.words) if feed.kind == "outcome" else ()
            return source, "n", outcomes[0] if outcomes else "", outcomes[1:]


def _reviews(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"reviews_{word}" for word in words)
