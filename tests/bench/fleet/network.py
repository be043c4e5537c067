"""Bytes between GPUs for each step, and the efficiency that they allow.

An all-reduce sends 2 (n-1)/n times the gradients from each of n GPUs (Patarasuk and Yuan 2009,
"Bandwidth optimal all-reduce algorithms for clusters of workstations"); FSDP gathers the parameters
twice and scatters the gradients once, (n-1)/n times each (Rajbhandari et al. 2020, "ZeRO"). In a
ring over nodes of 8 GPUs one hop in 8 leaves a node: its network carries what one GPU sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.gpu.page import PEAKS

OURS = "Springtide"
IN_A_NODE = 8
NVLINK = 450e9
"""Bytes a second from one H100 SXM, one direction: half of the 900 GB/s of its data sheet."""
FAST = IN_A_NODE * 50e9
"""Bytes a second from one node: 8 cards of 400 Gb/s, as in a DGX H100."""
SLOW = 12.5e9
"""Bytes a second from one node with a single card of 100 Gb/s."""
CLUSTERS = {
    "8 GPUs": (8, NVLINK),
    "64 GPUs": (64, FAST),
    "512 GPUs": (512, FAST),
    "64 GPUs, 100 Gb/s": (64, SLOW),
    "512 GPUs, 100 Gb/s": (512, SLOW),
}
"""Number of GPUs, and the bytes a second of the slowest hop of a ring."""
GRADIENT = 4
"""Bytes of a gradient or a parameter between GPUs: FP32."""
ASSUMED_MFU = 0.4
TOKENS = 8_192
"""Of one GPU in a step of the decoder that was not measured."""


@dataclass(frozen=True)
class Case:
    """A step of one GPU.

    Args:
        name: of model and method.
        seconds: that one GPU computes for a step.
        trained: parameters with a gradient.
        parameters: all of them; 0: no row for FSDP.
        source: of the seconds.
    """

    name: str
    seconds: float
    trained: float
    parameters: float
    source: str


def all_reduced(gpus: int, trained: float) -> float:
    """Bytes that each GPU sends in a step under DDP."""
    return 2 * (gpus - 1) / gpus * GRADIENT * trained


def sharded(gpus: int, parameters: float, trained: float) -> float:
    """Bytes that each GPU sends in a step of one forward pass under FSDP."""
    return (gpus - 1) / gpus * GRADIENT * (2 * parameters + trained)


def cases(gpu: dict[str, Any]) -> list[Case]:
    """Return measured steps of MiniLM, and those of a decoder of a billion parameters."""
    found = []
    for batch in (256, 32):
        (case,) = [each for each in gpu["cases"] if each["batch"] == batch and not each["layers"]]
        own = [each for each in case["measured"] if each["side"] == OURS]
        step = fmean(batch * each["step_seconds"] / each["step_rows"] for each in own)
        trained = own[0]["flops_per_token"] / 6
        name = f"MiniLM-L6, {batch} rows on each GPU"
        found.append(Case(name, step, trained, 0, "measured"))
    billion = 1e9
    step = 6 * billion * TOKENS / (ASSUMED_MFU * PEAKS["H100"])
    assumed = f"assumed: {ASSUMED_MFU:.0%} MFU"
    name = f"decoder of 1 billion, {TOKENS:,} tokens on each GPU"
    found.append(Case(f"{name}, Full", step, billion, billion, assumed))
    # A frozen weight needs no gradient of its own: 4 of 6 operations are left.
    found.append(Case(f"{name}, LoRA of 0.5 %", step * 4 / 6, 0.005 * billion, 0, assumed))
    return found


HEAD = """## Between GPUs

Springtide trains on the GPUs of one node ([several GPUs](how-to/several-gpus.md)) or of [several
nodes](how-to/several-nodes.md). All but the steps of one GPU is computed here, on paper. For each
step: what one GPU sends, and the share of the time in which it computes, first if it sends nothing
while it computes, then if all is sent meanwhile. Latency, small messages and slow GPUs are not in
it: expect less, above all of steps of a few milliseconds.
"""

NOTES = """- Bytes: an all-reduce sends 2 (n-1)/n times the gradients of the trained parameters
  from each of n GPUs (Patarasuk and Yuan 2009). FSDP gathers the parameters twice and scatters
  the gradients once, (n-1)/n times each, in each forward pass (ZeRO, Rajbhandari et al. 2020).
  Gradients and the weights that are gathered have {gradient} bytes.
- Up to {node} GPUs: {nvlink:.0f} GB/s in each direction, half of NVLink's 900 GB/s (data sheet
  of the H100 SXM). Beyond, a ring crosses a node's network once for its {node} GPUs:
  {fast:.0f} GB/s, 8 cards of 400 Gb/s (data sheet of the DGX H100), or {slow:g} GB/s, one card of
  100 Gb/s.
- Measured: the steps of [one {card}](benchmarks.md#on-a-gpu), word embeddings frozen. Assumed: 6
  operations for each parameter and token, 4 with LoRA, at {mfu:.0%} of {peak:.0f} TFLOP/s.
- A step of Springtide has the same rows with any number of GPUs. So many rows on each GPU mean a
  step that grows with them; MiniLM with 32 rows instead of 256 is the same step on 8 times
  the GPUs.
"""


def section(gpu: dict[str, Any]) -> str:
    """Return a table of bytes and efficiency, with the source of each figure."""
    heads = " | ".join(CLUSTERS)
    notes = NOTES.format(
        gradient=GRADIENT,
        node=IN_A_NODE,
        nvlink=NVLINK / 1e9,
        fast=FAST / 1e9,
        slow=SLOW / 1e9,
        card=gpu["machine"]["gpu"],
        mfu=ASSUMED_MFU,
        peak=PEAKS["H100"] / 1e12,
    )
    lines = [
        HEAD,
        f"| step | computed in | source | {heads} |",
        f"|---|---|---|{'---|' * len(CLUSTERS)}",
        *(row for case in cases(gpu) for row in _rows(case)),
        "",
        notes,
    ]
    return "\n".join(lines)


def _rows(case: Case) -> list[str]:
    sent = [all_reduced(gpus, case.trained) for gpus, _ in CLUSTERS.values()]
    rows = [_row(f"{case.name}, DDP", case, sent)]
    if case.parameters:
        sent = [sharded(gpus, case.parameters, case.trained) for gpus, _ in CLUSTERS.values()]
        rows.append(_row(f"{case.name}, FSDP", case, sent))
    return rows


def _row(name: str, case: Case, sent: list[float]) -> str:
    rates = [rate for _, rate in CLUSTERS.values()]
    cells = [_cell(case.seconds, *each) for each in zip(rates, sent, strict=True)]
    return f"| {name} | {1000 * case.seconds:.1f} ms | {case.source} | {' | '.join(cells)} |"


def _cell(computes: float, rate: float, sent: float) -> str:
    sends = sent / rate
    apart, together = computes / (computes + sends), computes / max(computes, sends)
    return f"{sent / 1e6:,.0f} MB; {apart:.0%} to {together:.0%}"
