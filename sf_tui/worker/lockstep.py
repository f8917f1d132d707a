"""Work that all ranks do together, pass by pass, and that must end in the same way on each.

A full disk or a lack of memory is met by one rank alone. In a run whose weights are divided, that
rank would go on with the next step while the others wait in a pass that it never joins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sf_tui.engine.ranks import RankLostError, Ranks


@contextmanager
def ending_alike(ranks: Ranks) -> Iterator[None]:
    """End the run if the block ends in another way on another rank; only in lockstep.

    Raises:
        RankLostError: one rank raised what the others didn't.
    """
    if not ranks.lockstep:
        yield
        return
    try:
        yield
    except RankLostError:
        raise
    except Exception as error:
        _compare(ranks, type(error).__name__, str(error), error)
        raise
    _compare(ranks, "", "", None)


def _compare(ranks: Ranks, kind: str, said: str, error: Exception | None) -> None:
    try:
        outcomes = ranks.compare(f"{kind}\n{said}" if kind else "")
    except RankLostError as lost:
        if error is None:
            raise
        # The others are in the middle of a pass; they find this once this process is gone.
        ranks.leave(said or kind)
        raise _alone(ranks.rank, said or kind) from lost
    kinds = [outcome.partition("\n")[0] for outcome in outcomes]
    if len(set(kinds)) > 1:
        failed = next(rank for rank, one in enumerate(kinds) if one)
        raise _alone(failed, outcomes[failed].partition("\n")[2] or kinds[failed]) from error


def _alone(rank: int, said: str) -> RankLostError:
    return RankLostError(
        f"rank {rank} alone failed in what all ranks do together: {said}",
        "see to its machine; `sf resume RUN` continues the run from its last checkpoint",
    )
