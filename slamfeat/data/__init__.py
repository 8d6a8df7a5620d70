"""Sequences of frames from the public data sets, image folders, videos and cameras; pairs of known geometry."""

from slamfeat.data.open import open_sequence
from slamfeat.data.open_pairs import PairGroup, open_pairs
from slamfeat.data.records import SkippedFrame
from slamfeat.data.sequence import Sequence

__all__ = ["PairGroup", "Sequence", "SkippedFrame", "open_pairs", "open_sequence"]
