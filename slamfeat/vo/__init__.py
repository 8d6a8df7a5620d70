"""Visual odometry that measures a frontend."""

from slamfeat.vo.config import OdometryConfig
from slamfeat.vo.odometry import Odometry
from slamfeat.vo.report import FrameReport
from slamfeat.vo.scale import GroundTruthScale, PropagatedScale, ScaleSource

__all__ = ["FrameReport", "GroundTruthScale", "Odometry", "OdometryConfig", "PropagatedScale", "ScaleSource"]
