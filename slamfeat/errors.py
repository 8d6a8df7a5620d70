"""The errors that users of slamfeat may meet. Every message names the thing at fault and the fix.

The command line prints such a message as one line and exits 1; anything else that escapes is a bug.
"""

from __future__ import annotations


class SlamfeatError(Exception):
    """Root of every error that is the input's fault rather than the program's."""


class InputError(SlamfeatError):
    """A path, image, sequence, calibration or ground truth cannot be used as given."""


class ImageError(InputError):
    """One image cannot be read or used. Iterating a sequence skips and counts such frames."""


class WeightsError(SlamfeatError):
    """A checkpoint is missing, damaged, or belongs to another architecture."""


class ConfigError(SlamfeatError):
    """A configuration key or value is unknown or out of range."""


class OutputError(SlamfeatError):
    """A result cannot be written where it was asked to go."""


class MissingDependencyError(SlamfeatError):
    """An optional package or system library is needed for what was asked."""


class TrainingError(SlamfeatError):
    """A training cannot go on: its loss or a gradient is not finite."""
