"""Published weights to begin with."""

from __future__ import annotations

from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.bundle import FINE_BRANCHES
from slamfeat.frontend.heads.describe import freeze
from slamfeat.frontend.heads.fine import FineBranch
from slamfeat.frontend.heads.lightglue_weights import load_lightglue
from slamfeat.frontend.heads.matcher import AttentionMatcher
from slamfeat.peer_weights import load


def published_fine(fine: str, weights: str) -> FineBranch:
    """A frozen fine branch with published weights.

    Args:
        fine: of `FINE_BRANCHES`.
        weights: a name that `slamfeat weights list` shows; does not count for a branch that has none.

    Raises:
        ConfigError: an unknown name, or none.
        WeightsError: they are not stored, or of another network.
    """
    branch = FINE_BRANCHES[fine]()
    learned = {key for key, _ in branch.named_parameters()}  # of the buffers some are constants, which no file has
    if learned:
        state = {f"net.{key}": value for key, value in load(weights).items()}
        own = branch.state_dict()
        missing = sorted(key for key in learned if key not in state or own[key].shape != state[key].shape)
        if missing:
            raise WeightsError(f"the weights of {weights} are not those of '{fine}': no fitting {missing[0]}")
        branch.load_state_dict({**own, **{key: state[key] for key in own if key in state}})
    freeze(branch)
    return branch


def start_matcher(matcher: AttentionMatcher, weights: str) -> None:
    """Give a matcher the weights of a published LightGlue; an empty name leaves it as it is.

    Raises:
        ConfigError: an unknown name.
        WeightsError: they are not stored, or of other sizes.
    """
    if weights:
        load_lightglue(matcher, load(weights))
