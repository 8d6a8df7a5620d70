"""Where a frontend stands behind a peer and where ahead of every one, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from slamfeat.bench.headlines import Headline, headlines
from slamfeat.bench.reading import LEAST_TRACKED_PERCENT, Result

OURS = "slamfeat"


def behind(results: Mapping[str, Result], ours: str = OURS) -> list[str]:
    """A sentence a headline figure in which the best peer is better, with both figures.

    Args:
        results: by task.
        ours: the frontend; its own presets and recipes ("slamfeat:NAME") are no peers.
    """
    return [_sentence(line, ours, peer) for line, peer in _compared(results, ours) if line.rank(ours) < line.rank(peer)]


def ahead(results: Mapping[str, Result], ours: str = OURS) -> list[str]:
    """A sentence a headline figure in which every peer is worse; arguments as in `behind`.

    What prints the same is neither ahead nor behind.
    """
    return [_sentence(line, ours, peer) for line, peer in _compared(results, ours) if line.rank(ours) > line.rank(peer)]


def standing_markdown(results: Mapping[str, Result], ours: str = OURS) -> str:
    """The counts and both lists as markdown."""
    worse, better = behind(results, ours), ahead(results, ours)
    equal = len(_compared(results, ours)) - len(worse) - len(better)
    count = f"{ours} is behind a peer in {len(worse)} headline figures, ahead of every peer in {len(better)}"
    return (
        f"{count}, level in {equal}. {tracked_rule()}\n\n"
        f"**Behind a peer**\n\n{_bullets(worse)}\n**Ahead of every peer**\n\n{_bullets(better)}"
    )


def tracked_rule() -> str:
    """What is made of runs that lose much of a sequence."""
    return f"A run that tracks under {LEAST_TRACKED_PERCENT:.0f} % of the frames counts as lost."


def _compared(results: Mapping[str, Result], ours: str) -> list[tuple[Headline, str]]:
    """Figures that ours and a peer were measured in, with the best peer: of equal ones the first."""
    found = []
    for line in headlines(results):
        family = ours.partition(":")[0]
        peers = [name for name in line.values if name.partition(":")[0] != family]
        if ours in line.values and peers:
            found.append((line, max(peers, key=line.rank)))
    return found


def _sentence(line: Headline, ours: str, peer: str) -> str:
    return f"{line.subject}: {line.measure} {line.text(ours)}, {peer} {line.text(peer)}"


def _bullets(sentences: list[str]) -> str:
    return "".join(f"- {' '.join(sentence.split())}\n" for sentence in sentences) or "- none\n"
