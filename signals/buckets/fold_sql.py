"""The statements that fold a ledger into buckets, one for every kind of ledger."""

from typing import Final

from signals.buckets.folds import MINUTE_S, SET_MAX, Fold

# Whether minutes of a ledger's row are kept; of older days only hours are.
_IN_PRUNED: Final = "(minute at time zone 'UTC')::date = any(%(pruned)s::date[])"


def added(fold: Fold, length_s: int, *, pruned: bool = False) -> str:
    """Return SQL that adds what drains `drains` brought to the buckets of a length.

    Args:
        pruned: add only what lies on the days `pruned`, instead of only what does not.
    """
    table = fold.tables[length_s]
    rest = [name for name in fold.columns if name != "minute"]
    minute = "minute" if length_s == MINUTE_S else bin_of("minute", length_s)
    key, columns = ", ".join(fold.key), ", ".join(fold.columns)
    condition = _IN_PRUNED if pruned else f"not {_IN_PRUNED}"
    new = f"""
arrived as (
    select {minute} as minute, {", ".join(rest)} from {fold.ledger}
    where drain = any(%(drains)s) and {condition}
), parts as (
    select {columns} from arrived
    union all
    select {columns} from {table} join (select distinct {key} from arrived) as t using ({key})
)"""  # noqa: S608  # of our own constants
    return f"""
with {new}, {_merged(fold)}
insert into {table} ({columns})
{_selected(fold)}
on conflict ({key}) do update set
    {", ".join(f"{name} = excluded.{name}" for name in (*fold.plain, *fold.arrays))}
"""  # of our own constants


def touched(fold: Fold) -> str:
    """Return SQL that marks the longer buckets that drains `drains` make stale."""
    return f"""
insert into stale_bucket (length_s, path_id, minute, since)
select distinct length_s, path_id,
    date_bin(length_s * interval '1 second', minute, 'epoch'::timestamptz), %(now)s::timestamptz
from (
    select distinct path_id, minute from {fold.ledger}
    where drain = any(%(drains)s) and not {_IN_PRUNED}
) as t cross join unnest(%(lengths)s::int[]) as length_s
order by 1, 2, 3
on conflict do nothing
"""  # noqa: S608  # of our own constants


def emptied(table: str) -> str:
    """Return SQL that deletes the buckets named by `paths` and `starts`, within `length`."""
    return f"""
delete from {table} as f using unnest(%(paths)s::int[], %(starts)s::timestamptz[]) as s(path_id, at)
where f.path_id = s.path_id and f.minute >= s.at
    and f.minute < s.at + %(length)s * interval '1 second'
"""  # noqa: S608  # of our own constants


def refolded(fold: Fold, length_s: int) -> str:
    """Return SQL that makes anew the buckets named by `paths` and `starts`, of their minutes."""
    rest = ", ".join(f"m.{name}" for name in fold.columns if name != "minute")
    parts = f"""
parts as (
    select s.at as minute, {rest}
    from unnest(%(paths)s::int[], %(starts)s::timestamptz[]) as s(path_id, at)
    join {fold.tables[MINUTE_S]} as m on m.path_id = s.path_id and m.minute >= s.at
        and m.minute < s.at + interval '{length_s} seconds'
)"""  # noqa: S608  # of our own constants
    return _inserted(fold, length_s, parts)


def recounted(fold: Fold, length_s: int) -> str:
    """Return SQL that makes anew, of the ledger, the buckets in [since, until).

    Those of the paths `without` are left as they are.
    """
    return _inserted(fold, length_s, ledger_parts(fold, length_s))


def ledger_parts(fold: Fold, length_s: int) -> str:
    """Return the common table `parts`: the ledger's folded rows of a time, by bucket.

    A drain that is not folded yet counts nowhere; one without a batch row any more was.
    """
    rest = ", ".join(f"l.{name}" for name in fold.columns if name != "minute")
    return f"""
parts as (
    select {bin_of("l.minute", length_s)} as minute, {rest}
    from {fold.ledger} as l
    where l.minute >= %(since)s and l.minute < %(until)s
        and l.path_id <> all(%(without)s::int[])
        and not exists (
            select from ingest_batch as b where b.seq = l.drain and b.folded_at is null
        )
)"""  # noqa: S608  # of our own constants


def bin_of(column: str, length_s: int) -> str:
    """Return SQL of the start of the bucket of `length_s` that a time lies in."""
    return f"date_bin('{length_s} seconds', {column}, 'epoch'::timestamptz)"


def summed(fold: Fold, parts: str) -> str:
    """Return a whole query: what the common table `parts` adds up to, a row a key."""
    return f"with {parts}, {_merged(fold)} {_selected(fold)}"


# Sums of double precision depend on the order of adding: n of them differ by at most about n
# units in the last place (2e-16), which for a million a bucket is well below this.
TOLERANCE: Final = 1e-9


def difference(fold: Fold, expected: str, actual: str) -> str:
    """Return a query for the first key at which two common tables `parts` add up differently.

    Its row is the key, and an array of texts that say which measures differ and how.
    """
    unequal = {
        name: f"e.{name} is distinct from a.{name}"
        for name in (*fold.counts, *fold.minima, *fold.maxima, *fold.arrays)
    }
    for name in fold.sums:
        scale = fold.scales.get(name, "abs({side}." + name + ")")
        scales = ", ".join(scale.format(side=side) for side in "ea")
        unequal[name] = (
            f"not coalesce(abs(e.{name} - a.{name}) <= {TOLERANCE} * greatest({scales}),"
            f" e.{name} is null and a.{name} is null)"
        )
    told = ", ".join(
        f"case when {condition} then '{name} ' || coalesce(e.{name}::text, 'nothing')"
        f" || ' counted, ' || coalesce(a.{name}::text, 'nothing') || ' held' end"
        for name, condition in unequal.items()
    )
    key = ", ".join(fold.key)
    return f"""
select {key}, array_remove(array[{told}], null)
from ({summed(fold, expected)}) as e full join ({summed(fold, actual)}) as a using ({key})
where {" or ".join(unequal.values())}
order by {key} limit 1
"""  # noqa: S608  # of our own constants


def table_parts(fold: Fold, table: str, *, where: str) -> str:
    """Return the common table `parts`: rows of a table of the fold's columns."""
    return f"parts as (select {', '.join(fold.columns)} from {table} as l where {where})"  # noqa: S608


def _inserted(fold: Fold, length_s: int, parts: str) -> str:
    return f"""
with {parts}, {_merged(fold)}
insert into {fold.tables[length_s]} ({", ".join(fold.columns)})
{_selected(fold)}
"""  # of our own constants


def _merged(fold: Fold) -> str:
    """Return common tables over `parts`: the sums of each key, its histograms and its sets."""
    key = ", ".join(fold.key)
    aggregates = ", ".join(
        [f"sum({name}) as {name}" for name in (*fold.counts, *fold.sums)]
        + [f"min({name}) as {name}" for name in fold.minima]
        + [f"max({name}) as {name}" for name in fold.maxima]
    )
    tables = [f"sums as (select {key}, {aggregates} from parts group by {key})"]  # noqa: S608
    for name in fold.histograms:
        tables.append(f"""
{name}merged as (
    select {key},
        array_agg(idx order by idx) as {name}idx, array_agg(cnt order by idx) as {name}cnt
    from (
        select {key}, u.idx, sum(u.cnt)::int as cnt
        from parts, unnest({name}idx, {name}cnt) as u(idx, cnt)
        group by {key}, u.idx
    ) as q
    group by {key}
)""")  # noqa: S608  # of our own constants
    for name in fold.sets:
        tables.append(f"""
{name}merged as (
    select {key}, (array_agg(distinct u))[1:{SET_MAX}] as {name}
    from parts, unnest({name}) as u group by {key}
)""")  # noqa: S608  # of our own constants
    return ", ".join(tables)


def _selected(fold: Fold) -> str:
    key = ", ".join(fold.key)
    arrays = "".join(f", coalesce({name}, '{{}}') as {name}" for name in fold.arrays)
    joined = " ".join(
        f"left join {name}merged using ({key})" for name in (*fold.histograms, *fold.sets)
    )
    return f"select {key}, {', '.join(fold.plain)}{arrays} from sums {joined}"  # noqa: S608
