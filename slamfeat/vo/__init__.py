"""Visual odometry that measures a frontend."""

from slamfeat.vo.config import OdometryConfig
from slamfeat.vo.odometry import FrameReport, Odometry
from slamfeat.vo.scale import GroundTruthScale, PropagatedScale, ScaleSource

__all__ = ["FrameReport", "GroundTruthScale", "Odometry", "OdometryConfig", "PropagatedScale", "ScaleSource"]
