"""What computes the backbone's tokens: torch itself, OpenVINO or ONNX Runtime, in fp32, bf16 or int8.

`compiled.py` brings any other network to OpenVINO.
"""

from slamfeat.engines.base import Engine
from slamfeat.engines.make import make_engine, plan_engine

__all__ = ["Engine", "make_engine", "plan_engine"]
