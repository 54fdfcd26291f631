"""The signals that a plan defines for its workflow. Pure: no Django."""

from collections.abc import Mapping
from typing import Any, Final

from rollout_console.rollouts.plan_check import Part, unique
from signals.catalogue import SIGNALS, Signal
from signals.definition import KINDS_OF, WORDS_OF, Definition, signal_made
from signals.feeds import Feed

SIGNALS_MAX: Final = 50
BETTER: Final = ("lower", "higher")
KINDS: Final = ("rate", "mean", "quantile", "count")
UNIT_MAX: Final = 24
# A feed as it stands in the file; failure categories stand beside outcomes or alone.
FEEDS: Final = ("measure", "outcome", "failure_category", "evaluation", "feedback", "review")
LISTED: Final = ("outcome", "failure_category", "feedback", "review")


def signals_read(workflow: Part) -> list[Definition]:
    """Return the definitions, in the plan's order."""
    parts = workflow.parts("signals", what="A signal", most=SIGNALS_MAX)
    made = [_signal(part) for part in parts]
    pairs = zip(parts, (signal.slug for signal in made), strict=True)
    unique(pairs, "slug", "signal")
    return made


def known_signals(own: list[Definition]) -> Mapping[str, Signal]:
    """Return every signal that a guard of the plan may name, by slug."""
    return {**{signal.slug: signal_made(signal) for signal in own}, **SIGNALS}


def _signal(part: Part) -> Definition:
    slug = part.slug("slug")
    if slug in SIGNALS:
        part.fault(
            "slug",
            f"“{slug}” is a signal of the console's own catalogue; give yours another slug.",
        )
    name = part.text("name", default=slug, most=60) or slug
    title = part.text("title", default=name, most=120) or name
    feed = _feed(part)
    kind = _kind(part, feed)
    better = part.choice("better", BETTER, required=True)
    made = Definition(
        slug=slug,
        name=name,
        title=title,
        phrase=_phrase(part, name),
        unit=_unit(part, feed, kind),
        kind=kind,
        better="higher" if better == "higher" else "lower",
        feed=feed,
        **_numbers(part, feed, kind),
    )
    part.nothing_else()
    return made


def _feed(part: Part) -> Feed:
    """Return what feeds it; where that is not said, a measure of no name stands for it."""
    named = {
        "measure": part.text("measure"),
        "evaluation": part.text("evaluation"),
    }
    listed = {key: _words(part, key) for key in LISTED}
    told = [key for key in FEEDS if part.has(key)]
    # An outcome and a failure category make one feed: a task with either counts.
    feeds = ["outcome" if key == "failure_category" else key for key in told]
    if len(set(feeds)) != 1:
        if part.whole:
            part.fault(
                told[1] if told else "measure",
                f"A signal needs one thing that feeds it: {', '.join(f'“{key}”' for key in FEEDS)}."
                if not told
                else f"One thing feeds a signal, and “{told[0]}” does already.",
            )
        return Feed("measure", "unknown")
    match feeds[0]:
        case "measure":
            return Feed("measure", named["measure"])
        case "evaluation":
            return Feed("evaluation", named["evaluation"], score=part.raw("kind") == "mean")
        case "outcome":
            return Feed("outcome", words=listed["outcome"], categories=listed["failure_category"])
        case "feedback":
            return Feed("feedback", words=listed["feedback"])
        case _:
            words = listed["review"]
            # None or all of them was noted as a fault; a single one stands for it.
            known = 0 < len(words) < len(WORDS_OF["review"])
            return Feed("review", words=words if known else words[:1] or ("rejected",))


def _words(part: Part, key: str) -> tuple[str, ...]:
    """Return the words of a list, each once; a feed's words are known, categories are free."""
    found = part.texts(key, most=100)
    if part.has(key) and not part.items(key):
        part.fault(key, f"“{key}” names at least one.")
    known = WORDS_OF.get(key)
    for index, word in enumerate(found):
        where = f"{part.at(key)}/{index}"
        if known is not None and word not in known:
            part.faults.add(where, f"“{word}” is not known; known: {', '.join(known)}.")
        elif word in found[:index]:
            part.faults.add(where, f"“{word}” stands twice.")
    words = [word for word in found if known is None or word in known]
    if known is not None and set(words) == set(known) and key != "feedback":
        part.fault(key, f"“{key}” names them all, so it is always 100 %; leave one out.")
    return tuple(sorted(set(words), key=known.index if known is not None else None))


def _kind(part: Part, feed: Feed) -> Any:
    kind = part.choice("kind", KINDS, required=True)
    fitting = KINDS_OF[feed.kind]
    if kind in fitting:
        return kind
    if part.has("kind") and part.raw("kind") in KINDS:
        noun = "outcomes" if feed.kind == "outcome" else f"“{feed.kind}”"
        part.fault("kind", f"Of {noun} only {' or '.join(fitting)} can be made, not {kind}.")
    return fitting[0]


def _unit(part: Part, feed: Feed, kind: str) -> str:
    fixed = {"rate": "share", "count": "count"}.get(kind)
    unit = part.text("unit", most=UNIT_MAX).strip()
    if fixed is not None:
        if unit and unit != fixed:
            part.fault("unit", f"A {kind} is counted in “{fixed}”; leave “unit” out.")
        return fixed
    if feed.kind == "evaluation":
        if unit and unit != "score":
            part.fault("unit", "An evaluation's mean is counted in “score”; leave “unit” out.")
        return "score"
    if any(letter in unit for letter in "<>{}\n"):
        part.fault("unit", "A unit holds no < > { } and no line break.")
        return ""
    return unit


def _phrase(part: Part, name: str) -> str:
    phrase = part.text("phrase", most=200)
    if not phrase:
        return f"{name.replace('{', '').replace('}', '')} was {{}}"
    if phrase.count("{}") != 1 or any(mark in phrase.replace("{}", "", 1) for mark in "{}"):
        part.fault("phrase", "“phrase” holds {} once, where the value stands, and no other brace.")
        return "{}"
    return phrase


def _numbers(part: Part, feed: Feed, kind: str) -> dict[str, Any]:
    """Return `q`, `above` and `per_task`, each where it belongs."""
    of_measure = feed.kind == "measure"
    made: dict[str, Any] = {}
    wanted = {"q": kind == "quantile", "above": of_measure and kind == "rate"}
    said = {
        "q": "Only a quantile has “q”.",
        "above": "Only the rate of a measure has “above”.",
    }
    for key, fits in wanted.items():
        value = part.number("q", above=0, most=0.9999) if key == "q" else part.number("above")
        if fits and value is None and not part.has(key):
            needs = "A quantile needs “q”" if key == "q" else "A measure's rate needs “above”"
            part.fault(key, f"{needs}, as in {'0.95' if key == 'q' else '3'}.")
        elif not fits and part.has(key):
            part.fault(key, said[key])
            value = None
        made[key] = value
    per_task = part.flag("per_task")
    if per_task and not (of_measure and kind == "mean"):
        part.fault("per_task", "Only the mean of a measure is spread over all tasks.")
        per_task = False
    return {**made, "per_task": per_task}
