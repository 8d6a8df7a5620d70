"""The degradations by name."""

from __future__ import annotations

from slamfeat.bench.degrade.base import Degradation
from slamfeat.bench.degrade.drops import FRAME_DROPS
from slamfeat.bench.degrade.exposure import DARKNESS, FLICKER, GAMMA
from slamfeat.bench.degrade.fog import FOG
from slamfeat.bench.degrade.motion import MOTION_BLUR
from slamfeat.bench.degrade.occlusion import OCCLUSION
from slamfeat.bench.degrade.optics import DEFOCUS, JPEG
from slamfeat.bench.degrade.sequence import DegradedSequence
from slamfeat.bench.degrade.texture import LOW_TEXTURE
from slamfeat.data import Sequence
from slamfeat.errors import InputError

DEGRADATIONS: dict[str, Degradation] = {
    item.name: item
    for item in (
        DARKNESS, FLICKER, GAMMA, MOTION_BLUR, DEFOCUS, JPEG, FOG, OCCLUSION, LOW_TEXTURE, FRAME_DROPS,
    )
}  # fmt: skip


def degrade(sequence: Sequence, name: str, amount: float, seed: int = 0) -> DegradedSequence:
    """The sequence with one degradation of one strength.

    The bytes of a frame depend on the sequence, the arguments and the frame's place in the sequence, on nothing else
    (random numbers: numpy's PCG64, seeded for every image).

    Args:
        sequence: a view for one mode, see `Sequence.for_mode`.
        name: one of `DEGRADATIONS`.
        amount: in the degradation's unit, within its limits; `DEGRADATIONS[name].amounts` are the benchmark's.
        seed: at least 0; another seed is another draw of noise, blocks, exposures or drops.

    Raises:
        InputError: an unknown name, or an amount or seed out of range.
    """
    if name not in DEGRADATIONS:
        raise InputError(f"unknown degradation '{name}'; use one of {', '.join(DEGRADATIONS)}")
    chosen = DEGRADATIONS[name]
    least, most = chosen.limits
    if not least <= amount <= most:
        raise InputError(f"{name}: amount {amount:g} must lie in {least:g} to {most:g} ({chosen.unit})")
    if seed < 0:
        raise InputError(f"{name}: seed {seed} must not be negative")
    return DegradedSequence(sequence, chosen, float(amount), seed)
