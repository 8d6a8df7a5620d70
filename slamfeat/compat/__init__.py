"""Sockets to other people's code: OpenCV, kornia, LightGlue. Importing this imports none of them."""

from slamfeat.compat.kornia import features_to_lafs
from slamfeat.compat.lightglue import features_from_dict, matches_to_dict
from slamfeat.compat.opencv import OpenCVFeature2D, features_to_cv2

__all__ = ["OpenCVFeature2D", "features_from_dict", "features_to_cv2", "features_to_lafs", "matches_to_dict"]
