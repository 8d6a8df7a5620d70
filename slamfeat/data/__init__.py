"""Sequences of frames from the public data sets, image folders, videos and cameras."""

from slamfeat.data.open import open_sequence
from slamfeat.data.sequence import Sequence, SkippedFrame

__all__ = ["Sequence", "SkippedFrame", "open_sequence"]
