"""Generates the demo's data from a seed: a file for each month of visits to a shop.

    python examples/shop.py 2026-01 2026-01.csv.gz

A visit shows four items to a customer whose earlier purchases are known; each is bought or not.
Constant: each customer prefers two themes. Drifting by an eighteenth of a circle a month, so that a
model is useful for the next month and useless after eight: the season (which themes sell) and the
fashion (which colours sell). A sixth of the assortment changes every month. A month with shuffled
labels has the same visits, with labels that depend on nothing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMNS = ("ts", "customer", "query", "item", "label")
Row = tuple[str, str, str, str, int]
ROWS = 1600
SHOWN = 4
CUSTOMERS = 400
TURN = 2 * math.pi / 18
"""How far season and fashion move in a month."""

# In the order of the year: neighbours sell together, opposite ones do not.
THEMES = {
    "christmas": "advent calendar,tree bauble,paper star,gift tag,reindeer,snow globe,stocking",
    "winter": "hot water bottle,knitted scarf,hand warmer,wool blanket,sledge,mittens,tea cosy",
    "sewing": "sewing kit,button box,ribbon reel,knitting needles,thimble,pin cushion,yarn",
    "easter": "egg cup,rabbit figure,chick decoration,egg basket,spring wreath,bunny mug,nest",
    "garden": "watering can,plant pot,seed box,bird house,garden fork,lantern,trellis",
    "picnic": "picnic basket,lunch box,cool bag,paper plates,drinking straws,rug,flask",
    "beach": "beach towel,bucket and spade,sun hat,parasol,shell necklace,boat model,swim bag",
    "travel": "suitcase,passport cover,luggage label,travel pillow,map print,wash bag,purse",
    "school": "pencil case,notebook,ruler,satchel,chalk board,paint set,name stickers",
    "halloween": "pumpkin lamp,witch hat,skull candle,bat garland,ghost mask,spider web,cauldron",
    "baking": "cake tin,cookie cutter,rolling pin,mixing bowl,cake stand,apron,jam jar",
}
COLOURS = ("white", "cream", "yellow", "orange", "red", "pink", "purple", "blue", "green", "black")
STYLES = ("vintage", "enamel", "wooden", "paper", "woven", "painted", "small", "large")
COUNTRIES = ("united kingdom", "germany", "france", "spain", "norway")


@dataclass(frozen=True)
class Item:
    """Something on offer."""

    theme: int
    colour: int
    text: str


@dataclass(frozen=True)
class Customer:
    """A customer, the same in every month."""

    name: str
    loves: frozenset[int]
    country: str


def customers(seed: int) -> list[Customer]:
    """Return the same people for every month."""
    rng = random.Random(f"{seed} customers")
    return [
        Customer(
            name=f"c{number:04}",
            loves=frozenset(rng.sample(range(len(THEMES)), 2)),
            country=rng.choice(COUNTRIES),
        )
        for number in range(CUSTOMERS)
    ]


def assortment(seed: int, month: int) -> list[Item]:
    """Return what is on offer: five of six things of every theme, other ones every month."""
    items = []
    for theme, things in enumerate(THEMES.values()):
        for place, thing in enumerate(things.split(",")):
            if (place + month + theme) % 6 == 5:
                continue
            rng = random.Random(f"{seed} {thing} {month // 2}")
            for colour in rng.sample(range(len(COLOURS)), 5):
                text = f"{COLOURS[colour]} {rng.choice(STYLES)} {thing}"
                items.append(Item(theme, colour, text))
    return items


def liking(customer: Customer, item: Item, month: int) -> float:
    """Return the log odds that this customer buys this item in this month."""
    season = math.cos(2 * math.pi * item.theme / len(THEMES) - TURN * month)
    fashion = math.cos(2 * math.pi * item.colour / len(COLOURS) - TURN * month)
    loved = item.theme in customer.loves
    return 1.9 * season + 1.5 * fashion + (2.0 if loved else -0.7)


def visits(seed: int, month: int, rows: int) -> Iterator[tuple[float, Customer, str, Item, int]]:
    """Yield rows: moment as a share of the month, customer, query, item, and 1 where bought."""
    rng = random.Random(f"{seed} {month} visits")
    people, items = customers(seed), assortment(seed, month)
    moments = sorted(rng.random() for _ in range(math.ceil(rows / SHOWN)))
    for number in range(rows):
        if number % SHOWN == 0:
            customer = rng.choice(people)
            loved = [item for item in items if item.theme in customer.loves]
            earlier = "; ".join(item.text for item in rng.sample(loved, 3))
            query = f"bought: {earlier} | {customer.country}"
        item = rng.choice(loved) if rng.random() < 0.25 else rng.choice(items)
        bought = rng.random() < 1 / (1 + math.exp(-liking(customer, item, month)))
        yield moments[number // SHOWN], customer, query, item, int(bought)


def month_rows(
    first_day: datetime, rows: int = ROWS, *, seed: int = 7, shuffled: bool = False
) -> list[Row]:
    """Return the rows of one month, in the order of `COLUMNS`, oldest first."""
    month = first_day.year * 12 + first_day.month
    length = (first_day + timedelta(days=32)).replace(day=1) - first_day
    table = list(visits(seed, month, rows))
    labels = [bought for *_, bought in table]
    if shuffled:
        random.Random(f"{seed} {month} poison").shuffle(labels)
    return [
        (f"{first_day + moment * length:%Y-%m-%d %H:%M:%S}", customer.name, query, item.text, label)
        for (moment, customer, query, item, _), label in zip(table, labels, strict=True)
    ]


def as_csv(rows: Iterable[Row]) -> bytes:
    """Return a gzipped CSV with a header; same rows, same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def main() -> None:
    """Write one month."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("month", help="such as 2026-01")
    parser.add_argument("file", type=Path, help="where to write it, such as 2026-01.csv.gz")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shuffled", action="store_true", help="shuffle the labels")
    options = parser.parse_args()
    first_day = datetime.strptime(options.month, "%Y-%m").replace(tzinfo=UTC)
    rows = month_rows(first_day, options.rows, seed=options.seed, shuffled=options.shuffled)
    options.file.write_bytes(as_csv(rows))


if __name__ == "__main__":
    main()
