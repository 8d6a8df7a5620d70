"""What a backbone is worth, without labels of the task it is for: figures during and after training."""

from slamfeat.pretrain.probes.probes import ProbeConfig, Probes

__all__ = ["ProbeConfig", "Probes"]
