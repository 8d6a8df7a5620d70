"""Sequences of frames from the public data sets, image folders, videos and cameras."""

from slamfeat.data.open import open_sequence
from slamfeat.data.records import SkippedFrame
from slamfeat.data.sequence import Sequence

__all__ = ["Sequence", "SkippedFrame", "open_sequence"]
