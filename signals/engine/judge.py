"""Judge a folder of recorded rollouts, a verdict line each, on as many cores as are given."""

import gzip
import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from signals.engine.recorded import Record, Scenario, ScenarioMeta, Verdict, judged

# Rollouts judged side by side: enough for numpy, few enough for a small machine's memory.
TOGETHER: Final = 20

_Lines = list[tuple[ScenarioMeta, list[bytes]]]


class Unreadable(ValueError):
    """A recorded file that cannot be judged; the text names the place and the fix."""


class _Whose(msgspec.Struct):
    scenario_id: str


def judge(folder: Path, *, jobs: int = 1) -> Iterator[Verdict]:
    """Yield a verdict for each rollout of `scenarios.jsonl`, as they become known.

    Args:
        folder: holds `scenarios.jsonl` and `buckets.jsonl.gz` (or `buckets.jsonl`).
        jobs: processes to judge in, >= 1.

    Raises:
        Unreadable: a file is missing, or a line is not what the format says.
    """
    metas = _metas(folder / "scenarios.jsonl")
    batches = _batches(metas, _buckets(folder))
    if jobs == 1:
        for batch in batches:
            yield from _judge_batch(batch)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for verdicts in pool.imap(_judge_batch, batches):
            yield from verdicts


def _metas(path: Path) -> dict[str, ScenarioMeta]:
    decode = msgspec.json.Decoder(ScenarioMeta).decode
    metas: dict[str, ScenarioMeta] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            meta = decode(line)
        except msgspec.DecodeError as error:
            raise Unreadable(f"{path.name}, line {number}: {error}") from error
        if meta.horizon < 1 or not 0 < meta.alpha < 1 or not meta.signals:
            raise Unreadable(
                f"{path.name}, line {number}: a rollout needs a horizon of at least 1 minute, an"
                " alpha between 0 and 1, and a signal"
            )
        if meta.scenario_id in metas:
            raise Unreadable(f"{path.name}, line {number}: {meta.scenario_id} comes twice")
        metas[meta.scenario_id] = meta
    return metas


def _buckets(folder: Path) -> Path:
    packed = folder / "buckets.jsonl.gz"
    return packed if packed.exists() else folder / "buckets.jsonl"


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from (line for line in file if line.strip())
    except FileNotFoundError as error:
        raise Unreadable(f"there is no {path.name} in {path.parent}") from error
    except (OSError, EOFError) as error:
        raise Unreadable(f"{path.name} cannot be read: {error}") from error


def _batches(metas: dict[str, ScenarioMeta], path: Path) -> Iterator[_Lines]:
    """Yield rollouts with their lines, some at a time; those without a record come last."""
    whose = msgspec.json.Decoder(_Whose).decode
    waiting: _Lines = []
    told: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        try:
            owner = whose(line).scenario_id
        except msgspec.DecodeError as error:
            raise Unreadable(f"{path.name}, line {number}: {error}") from error
        if not waiting or waiting[-1][0].scenario_id != owner:
            if owner not in metas:
                raise Unreadable(f"{path.name}, line {number}: no rollout is called {owner!r}")
            if owner in told:
                raise Unreadable(
                    f"{path.name}, line {number}: the records of {owner} do not stand together"
                )
            if len(waiting) == TOGETHER:
                yield waiting
                waiting = []
            told.add(owner)
            waiting.append((metas[owner], []))
        waiting[-1][1].append(line)
    waiting += [(meta, []) for name, meta in metas.items() if name not in told]
    if waiting:
        yield waiting


def _judge_batch(batch: _Lines) -> list[Verdict]:
    return list(judged([_scenario(meta, lines) for meta, lines in batch]))


def _scenario(meta: ScenarioMeta, lines: Iterable[bytes]) -> Scenario:
    decode = msgspec.json.Decoder(Record).decode
    scenario = Scenario.of(meta)
    for line in lines:
        try:
            scenario.take(decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            text = line[:200].decode(errors="replace").strip()
            raise Unreadable(f"a record of {meta.scenario_id}: {error} ({text})") from error
    return scenario
