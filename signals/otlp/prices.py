"""What tokens cost: a dated sheet of dollars per token, and a call's price by it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

CLASSES: Final = ("input", "output", "cache_read", "cache_write")
MODELS_MAX: Final = 2_000
DATES_MAX: Final = 200
MOST_PER_TOKEN: Final = Decimal(1000)
# Smaller parts than these are no price anybody quotes, and would outgrow a run's cost.
_DECIMALS: Final = 20
_ALWAYS: Final = datetime(1, 1, 1, tzinfo=UTC)
_TOLD: Final = frozenset({"since", "note", "source", "source_key", *CLASSES})

Fault = dict[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token from `since` on, by class of token; a class may not be known."""

    since: datetime
    per_token: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class PriceSheet:
    """Prices by model, of each model the newest first."""

    models: Mapping[str, tuple[Price, ...]]

    def price(self, model: str, at: datetime) -> Price | None:
        """Return the price of a model in force at a time."""
        return next((one for one in self.models.get(model, ()) if one.since <= at), None)


NO_PRICES: Final = PriceSheet({})


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call; input includes what was read from and written to a cache."""

    tokens_in: int | None
    tokens_out: int | None
    cache_read: int
    cache_write: int


def call_cost(
    sheet: PriceSheet, *, models: tuple[str, ...], usage: Usage, at: datetime
) -> tuple[Decimal | None, str]:
    """Return what a call cost in dollars, or None and the reason why nobody knows.

    Args:
        models: names to look for, the surest first: as served, then as asked for.
    """
    if usage.tokens_in is None or usage.tokens_out is None:
        return None, "a call told no tokens"
    plain = usage.tokens_in - usage.cache_read - usage.cache_write
    if plain < 0:
        return None, "a call told more cached tokens than input tokens"
    found = next((one for name in models if (one := sheet.price(name, at))), None)
    if found is None:
        return None, f"no price for {models[0] if models else 'a call without a model'}"
    counts = {
        "input": plain,
        "output": usage.tokens_out,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
    }
    total = Decimal(0)
    for kind, tokens in counts.items():
        if tokens == 0:
            continue
        per_token = found.per_token.get(kind)
        if per_token is None:
            return None, f"no price for {kind.replace('_', ' ')} tokens of {models[0]}"
        total += tokens * per_token
    return total, ""


def sheet_read(document: Any) -> tuple[PriceSheet | None, list[Fault]]:
    """Return the sheet that a JSON document holds, or what is wrong with it, by pointer."""
    faults: list[Fault] = []
    if not isinstance(document, dict):
        return None, [_fault("", "Send an object with `models`.")]
    for name in document.keys() - {"models", "unit", "source", "note"}:
        faults.append(_fault(f"/{_escaped(name)}", "A price sheet has no such field."))
    unit = document.get("unit", "US dollars per token")
    if unit != "US dollars per token":
        faults.append(_fault("/unit", "Prices are in “US dollars per token”."))
    told = document.get("models")
    if not isinstance(told, dict):
        faults.append(_fault("/models", "`models` must be an object: model → its prices."))
        return None, faults
    if len(told) > MODELS_MAX:
        return None, [_fault("/models", f"A sheet holds at most {MODELS_MAX:,} models.")]
    models: dict[str, tuple[Price, ...]] = {}
    for name, prices in told.items():
        models[name] = _prices_read(prices, f"/models/{_escaped(name)}", faults)
    return (None, faults) if faults else (PriceSheet(models), [])


def _prices_read(told: Any, pointer: str, faults: list[Fault]) -> tuple[Price, ...]:
    # One price without a date may stand alone; dated ones are a list.
    listed = told if isinstance(told, list) else [told]
    if not listed or len(listed) > DATES_MAX:
        faults.append(_fault(pointer, f"A model has 1 to {DATES_MAX} prices."))
        return ()
    prices: list[Price] = []
    for number, one in enumerate(listed):
        at = f"{pointer}/{number}" if isinstance(told, list) else pointer
        price = _price_read(one, at, faults)
        if price is None:
            continue
        if any(price.since == other.since for other in prices):
            faults.append(_fault(f"{at}/since", "Another price of this model starts then."))
        prices.append(price)
    return tuple(sorted(prices, key=lambda price: price.since, reverse=True))


def _price_read(told: Any, pointer: str, faults: list[Fault]) -> Price | None:
    if not isinstance(told, dict):
        faults.append(_fault(pointer, "A price is an object with `input` and `output`."))
        return None
    before = len(faults)
    for name in told.keys() - _TOLD:
        faults.append(_fault(f"{pointer}/{_escaped(name)}", "A price has no such field."))
    since = _since_read(told.get("since"), f"{pointer}/since", faults)
    per_token: dict[str, Decimal] = {}
    for kind in CLASSES:
        if told.get(kind) is not None:
            amount = _amount_read(told[kind], f"{pointer}/{kind}", faults)
            if amount is not None:
                per_token[kind] = amount
    if not per_token and len(faults) == before:
        faults.append(_fault(pointer, "A price names dollars per token for `input`, `output`."))
    return Price(since, per_token) if len(faults) == before else None


def _since_read(told: Any, pointer: str, faults: list[Fault]) -> datetime:
    if told is None:
        return _ALWAYS
    try:
        since = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        since = None
    if since is None or since.tzinfo is None:
        faults.append(_fault(pointer, "`since` must be a time with its offset (RFC 3339)."))
        return _ALWAYS
    return since


def _amount_read(told: Any, pointer: str, faults: list[Fault]) -> Decimal | None:
    amount: Decimal | None = None
    if isinstance(told, str | int | float) and not isinstance(told, bool):
        try:
            amount = Decimal(str(told))
        except InvalidOperation:
            amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= MOST_PER_TOKEN:
        faults.append(
            _fault(pointer, "A price is dollars per token, from 0 to 1,000, number or text.")
        )
        return None
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_DECIMALS:
        faults.append(_fault(pointer, f"A price has at most {_DECIMALS} decimals."))
        return None
    return amount


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _fault(pointer: str, detail: str) -> Fault:
    return {"pointer": pointer, "detail": detail}
