"""What feeds a signal beside the ledger's columns. Pure: no Django."""

from dataclasses import dataclass
from typing import Literal

FeedKind = Literal["measure", "outcome", "evaluation", "feedback", "review"]


@dataclass(frozen=True, slots=True)
class Feed:
    """What a team's own signal is made of.

    `name` is a measure's or an evaluation's, `words` are outcomes, feedback values or verdicts,
    and `categories` the failure categories that count beside the outcomes. `score` reads an
    evaluation's score, else whether it passed.
    """

    kind: FeedKind
    name: str = ""
    words: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    score: bool = False

    @property
    def apart(self) -> bool:
        """Whether what it needs stands beside the arrival ledger, and not in its columns."""
        return self.kind in {"measure", "evaluation", "feedback"} or bool(self.categories)

    @property
    def key(self) -> str:
        """Its name among the parts of `Measures`."""
        said = [self.kind, self.name, *self.words, "/", *self.categories, "s" if self.score else ""]
        return "\x1f".join(said)
