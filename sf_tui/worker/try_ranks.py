"""What `sf doctor --launch` runs in each process: `python -m sf_tui.worker.try_ranks`.

Every rank exchanges a tensor with the others; rank 0 prints what it found as JSON.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import orjson
import torch

from sf_tui.engine.ranks import Ranks
from sf_tui.errors import SfError
from sf_tui.printable import printable
from sf_tui.worker.launched import connect_ranks

_ELEMENTS = 1 << 20


def try_exchange(ranks: Ranks) -> list[dict[str, Any]]:
    """Sum a tensor over all ranks, and return what each rank found, by rank.

    Returns:
        `host` and `device` of each rank, whether the sum was `right`, and the times of a decision
        and of the sum (4 MiB) in milliseconds.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", ranks.local_rank) if on_gpu else torch.device("cpu")
    tensor = torch.full((_ELEMENTS,), float(ranks.rank + 1), device=device)
    # The first exchange also opens the connections.
    ranks.add_up(torch.zeros_like(tensor))
    begun = time.perf_counter()
    ranks.add_up(tensor)
    wanted = ranks.world * (ranks.world + 1) / 2
    is_right = bool((tensor == wanted).all())
    summed = time.perf_counter()
    ranks.decide(lambda: None)
    decided = time.perf_counter()
    return ranks.gather(
        {
            "host": socket.gethostname(),
            "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
            "right": is_right,
            "sum_ms": round((summed - begun) * 1e3, 1),
            "decision_ms": round((decided - summed) * 1e3, 1),
        }
    )


def main() -> int:
    """Try the exchange; return the exit code."""
    try:
        ranks = connect_ranks()
        found = try_exchange(ranks)
    except SfError as error:
        print(printable(str(error)), file=sys.stderr)
        return error.exit_code
    if ranks.is_main:
        print(orjson.dumps(found).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
