"""What a measurement depends on besides the code: processor, GPU, threads, versions, date."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Those that compute in BF16, as Linux names them."""
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy")


def facts(threads: int) -> dict[str, Any]:
    """Describe this machine, and the number of threads that every side uses."""
    text = Path("/proc/cpuinfo").read_text()
    flags = set(re.findall(r"\w+", text))
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": name[1] if name else platform.machine(),
        **gpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "instructions": {each: each in flags for each in INSTRUCTIONS},
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
