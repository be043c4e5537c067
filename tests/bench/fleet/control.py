"""What a fleet needs of the operator and of the API server."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.fleet import storage

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
DAY = 86_400.0
SETTLED_SECONDS = 10.0
"""In which an operator must be at rest before a measurement ends; `control_plane` has it, too."""
RESYNC_SECONDS = 600.0
"""Each update is reconciled so often without any event, by default."""
OWN = ("incrementalupdates", "modelgenerations", "events")
"""Kinds that only the operator writes in a flood."""


@dataclass(frozen=True)
class Fleet(storage.Fleet):
    """What is assumed of the control plane, too."""

    poll_seconds: float = 1800.0
    """`trigger.onData.pollInterval`, by default."""
    writes_a_run: int = 8 + 12 + 1 + 3 + 1
    """At most: statuses of update and generation, the generation, its Jobs and one target."""
    progress_seconds: float = 10.0
    """Between two writes of the progress of a Job."""
    audit_seconds: float = 300.0
    """Between two lists of our own kinds, by each release."""
    compaction_seconds: float = 300.0
    """After which kube-apiserver lets etcd drop old versions of an object (its default)."""
    most_cores: float = 0.5
    """Of one release: its event loop has one core."""
    most_memory: float = 8192.0
    """MiB of one release."""
    memory: float = 512.0
    """MiB, the chart's limit."""
    client_qps: float = 200.0
    """`operator.client.qps`, by default."""


@dataclass(frozen=True)
class Costs:
    """What was measured, by update or by event. CPU in seconds, sizes in bytes."""

    base: float
    """MiB of an operator without updates."""
    expansion: float
    """Bytes of memory by byte of JSON that is kept."""
    expansion_foreign: float
    """The same of objects of other releases, which are listed and dropped."""
    update: float
    generation: float
    target: float
    start: float
    """CPU of the operator at a start, for each update."""
    start_foreign: float
    """The same for each update of another release."""
    start_server: float
    """CPU of the API server at a start, for each update: it lists all of it."""
    idle: float
    """CPU of an operator without updates in a second: its Lease and its watches."""
    idle_server: float
    """CPU of the API server in a second in which nothing changes."""
    rest: float
    """CPU of the operator in a second, for each update at rest: it is reconciled now and then."""
    write: float
    """CPU of the operator for a write, with the reconciles and reads around it."""
    write_server: float
    foreign: float
    """CPU of the operator for a changed object of another release."""
    own: float
    """CPU of the operator for a changed update that needs nothing."""

    @classmethod
    def of(cls, measured: dict[str, Any]) -> Costs:
        """Derive the costs from what `measure.py` wrote."""
        few, many = measured["populations"]
        flood, sizes = measured["flood"], many["bytes"]
        update, generation = sizes["IncrementalUpdate"], sizes["ModelGeneration"]
        target = sizes["Deployment"]
        kept = update + 3 * generation + target
        writes = sum(flood["counted"][kind] for kind in OWN)
        quiet = few["own"]["idle"]
        rate, rate_server = (
            float(quiet[key]) / float(quiet["seconds"] + SETTLED_SECONDS)
            for key in ("cpu", "server_cpu")
        )

        def without_rest(row: dict[str, Any], key: str) -> float:
            """CPU of a row without what is used at rest meanwhile."""
            resting = rate if key == "cpu" else rate_server
            return float(row[key] - resting * (row["seconds"] + SETTLED_SECONDS))

        def of_each(whose: str, key: str) -> float:
            """What each further update adds to a start."""
            rows = [each[whose]["start"] for each in (few, many)]
            if key == "megabytes":
                less, much = (float(row[key]) for row in rows)
            else:
                less, much = (without_rest(row, key) for row in rows)
            return max(0.0, much - less) / float(many["updates"] - few["updates"])

        def of_a_change(row: dict[str, Any]) -> float:
            return max(0.0, without_rest(row, "cpu")) / float(row["many"])

        megabytes, own = of_each("own", "megabytes"), of_a_change(few["own"]["changes"])
        return cls(
            base=many["own"]["start"]["megabytes"] - megabytes * many["updates"],
            expansion=megabytes * MIB / kept,
            expansion_foreign=of_each("foreign", "megabytes") * MIB / kept,
            update=update,
            generation=generation,
            target=target,
            start=of_each("own", "cpu"),
            start_foreign=of_each("foreign", "cpu"),
            start_server=of_each("own", "server_cpu"),
            idle=max(0.0, rate - few["updates"] * own / RESYNC_SECONDS),
            idle_server=rate_server,
            rest=own / RESYNC_SECONDS,
            write=(flood["cpu"] - rate * flood["seconds"]) / writes,
            write_server=(flood["server_cpu"] - rate_server * flood["seconds"]) / writes,
            foreign=of_a_change(many["foreign"]["changes"]),
            own=own,
        )


@dataclass(frozen=True)
class Load:
    """What a fleet does in a second, and what it keeps."""

    fleet: Fleet
    costs: Costs

    @property
    def progress(self) -> float:
        """Writes of progress: every GPU has a Job of its own, which is the most."""
        return self.fleet.gpus / self.fleet.progress_seconds

    @property
    def runs(self) -> float:
        """Writes of runs."""
        fleet = self.fleet
        return fleet.updates * fleet.runs_a_day * fleet.writes_a_run / DAY

    @property
    def writes(self) -> float:
        """All writes."""
        return self.progress + self.runs

    @property
    def kept(self) -> float:
        """Bytes of JSON of one update with all that the operator keeps of it."""
        costs = self.costs
        return costs.update + self.fleet.generations * costs.generation + costs.target

    @property
    def probes(self) -> float:
        """Probes started."""
        return self.fleet.updates / self.fleet.poll_seconds

    def cores(self, releases: int) -> float:
        """Cores of one of so many releases."""
        own = self.writes * self.costs.write + self.fleet.updates * self.costs.rest
        others = self.writes * self.costs.foreign * (1 - 1 / releases)
        return self.costs.idle + own / releases + others

    def memory(self, releases: int) -> float:
        """MiB of one of so many releases."""
        own, costs = 1 / releases, self.costs
        by_byte = own * costs.expansion + (1 - own) * costs.expansion_foreign
        return costs.base + self.fleet.updates * self.kept * by_byte / MIB

    def start(self, releases: int) -> float:
        """Seconds of CPU of the start of one of so many releases, by the bytes that it lists."""
        costs = self.costs
        measured = costs.update + 3 * costs.generation + costs.target
        each = costs.start / releases + (1 - 1 / releases) * costs.start_foreign
        return self.fleet.updates * each * self.kept / measured

    def fits(self, releases: int) -> bool:
        """Whether so many releases are enough, with the memory that they then need."""
        fleet = self.fleet
        return (
            self.cores(releases) <= fleet.most_cores
            and self.memory(releases) <= fleet.most_memory
            and self.writes / releases <= fleet.client_qps / 2
        )

    def releases(self) -> int:
        """Return how many releases are enough; 0: no number is."""
        return next((number for number in range(1, 101) if self.fits(number)), 0)

    def listed(self, releases: int) -> float:
        """Bytes that the API server sends in a second for the audits of all releases."""
        costs, fleet = self.costs, self.fleet
        each = costs.update + fleet.generations * costs.generation
        return releases * fleet.updates * each / fleet.audit_seconds

    def server_cores(self, releases: int) -> float:
        """Cores of the API server: at rest, writes, and the audits of all releases."""
        costs = self.costs
        measured = costs.update + 3 * costs.generation + costs.target
        by_byte = costs.start_server / measured
        listing = self.listed(releases) * by_byte
        return costs.idle_server + self.writes * costs.write_server + listing


def probe_seconds(start: dict[str, Any]) -> float:
    """Seconds of a pod until its imports are done, the shortest that a probe can be."""
    return median(rounds[0]["seconds"] for rounds in start["rounds"])


ASSUMED = """## The control plane

Assumed: {generations} generations are kept of each update (the defaults of `history`), each update
has {runs:g} run a day and a probe every {minutes:g} minutes, and every GPU has a training of its
own at every moment, which is the most that progress can cost.
"""

MEASURED = """| measured | |
|---|---|
| memory of an operator without updates | {base:.0f} MiB |
| memory for each byte of JSON that it keeps | {expansion:.1f} bytes |
| the same of objects of other releases | {expansion_foreign:.1f} bytes |
| an update as JSON | {update:,.0f} bytes |
| a generation as JSON | {generation:,.0f} bytes |
| a target as JSON | {target:,.0f} bytes |
| CPU at a start for each update, with 3 generations | {start:.2f} ms |
| the same for each update of another release | {start_foreign:.2f} ms |
| the same of the API server | {start_server:.2f} ms |
| CPU without updates | {idle:.1f} ms a second |
| the same of the API server | {idle_server:.1f} ms a second |
| CPU at rest, each update | {rest:.1f} µs a second |
| CPU for a write, with the reconciles around it | {write:.2f} ms |
| the same of the API server, etcd not counted | {write_server:.2f} ms |
| CPU for a change of an update that needs nothing | {own:.2f} ms |
| CPU for a change of an object of another release | {foreign:.2f} ms |
| a pod of the trainer's image until it can read data | {probe:.1f} s |
"""

WRITES = """So there are at most {progress:.0f} writes a second for progress (one for each Job in
{every:g} s), {runs:.1f} for runs (at most {writes} writes each), and {probes:.1f} probes a second,
of which at least {at_once:.0f} run at the same time.
"""

ENOUGH = """Fewest releases of which each has at most {cores:g} cores, {most:,.0f} MiB, and half of
the {qps:.0f} requests a second of `operator.client.qps`: **{enough}**. Each needs the memory of the
table; the chart's `resources.limits.memory` is {memory:.0f} MiB. A further release watches and
lists the objects of all others, too: it costs the API server the audits (a list of both kinds every
{audit:g} minutes), and its own operator a start and a dropped event for each of their changes. So
start with few, and give them memory. Several releases do not make a start short, in which nothing
is decided, while served models go on: fewer generations (`history`) do, and so does one release
with `watchNamespace` for each namespace.

**etcd** keeps {stored} of these objects, pods and Jobs not counted, and about {versions} of their
versions until they are compacted ({compaction:g} minutes). Its limit is 2 GiB by default, and 8 GiB
is the most that [etcd suggests](https://etcd.io/docs/v3.6/dev-guide/limit/). Fewer generations
(`history`) are the first remedy.

**Probes** come first where updates are many: raise `pollInterval`, or start runs on a schedule.
Those above `operator.maxProbes` wait for their turn, which delays runs and nothing else.
"""


def section(fleet: Fleet, costs: Costs, start: dict[str, Any]) -> str:
    """Return the assumptions, the measured costs, and what follows."""
    load, seconds = Load(fleet, costs), probe_seconds(start)
    enough = load.releases()
    versions = load.writes * fleet.compaction_seconds * (costs.update + costs.generation) / 2
    in_ms = (
        "idle",
        "idle_server",
        "start_foreign",
        "start",
        "start_server",
        "write",
        "write_server",
        "own",
        "foreign",
    )
    as_they_are = ("base", "expansion", "expansion_foreign", "update", "generation", "target")
    parts = [
        ASSUMED.format(
            generations=fleet.generations,
            runs=fleet.runs_a_day,
            minutes=fleet.poll_seconds / 60,
        ),
        MEASURED.format(
            **{name: getattr(costs, name) for name in as_they_are},
            **{name: 1000 * getattr(costs, name) for name in in_ms},
            rest=1e6 * costs.rest,
            probe=seconds,
        ),
        WRITES.format(
            progress=load.progress,
            every=fleet.progress_seconds,
            runs=load.runs,
            writes=fleet.writes_a_run,
            probes=load.probes,
            at_once=load.probes * seconds,
        ),
        _table(load, load.probes * seconds, sorted({1, 2, 4, enough or 8, 2 * (enough or 8)})),
        ENOUGH.format(
            enough=enough or "none, since each release also pays for the objects of all others",
            cores=fleet.most_cores,
            most=fleet.most_memory,
            qps=fleet.client_qps,
            memory=fleet.memory,
            audit=fleet.audit_seconds / 60,
            stored=_size(fleet.updates * load.kept),
            versions=_size(versions),
            compaction=fleet.compaction_seconds / 60,
        ),
    ]
    return "\n".join(parts)


def _table(load: Load, probes: float, columns: list[int]) -> str:
    """Return what each of so many releases needs."""
    rows: dict[str, Callable[[int], str]] = {
        "updates of each": lambda n: f"{load.fleet.updates / n:,.0f}",
        "memory of each": lambda n: f"{load.memory(n):,.0f} MiB",
        "cores of each": lambda n: f"{load.cores(n):.2f}",
        "writes of each, a second": lambda n: f"{load.writes / n:.1f}",
        "CPU of a start of each": lambda n: f"{load.start(n):,.0f} s",
        "`operator.maxProbes` of each, at least": lambda n: f"{ceil(probes / n)}",
        "cores of the API server": lambda n: f"{load.server_cores(n):.2f}",
        "audits of all, sent by the API server": lambda n: f"{load.listed(n) / 1e6:,.1f} MB/s",
    }
    heads = " | ".join(f"{n} release{'s' if n > 1 else ''}" for n in columns)
    lines = [f"| | {heads} |", f"|---|{'---|' * len(columns)}"]
    for name, value in rows.items():
        lines.append(f"| {name} | {' | '.join(map(value, columns))} |")
    return "\n".join([*lines, ""])


def _size(number: float) -> str:
    return f"{number / 1e9:.2f} GB"
