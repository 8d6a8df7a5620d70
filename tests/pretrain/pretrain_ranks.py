"""Targets of one's share of the rows, as one of several processes: pretrain_ranks.py IN OUT.

IN holds `logits` (N, K) and `shares`, rows of each process. Saves OUT-RANK.pt.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from slamfeat.pretrain.centring import Centring, SinkhornKnopp


def makers(prototypes: int) -> dict[str, nn.Module]:
    return {"centring": Centring(prototypes), "sinkhorn": SinkhornKnopp()}


def main(source: str, out: str) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    given: dict[str, Any] = torch.load(source, weights_only=True)
    own = given["logits"].split(given["shares"])[rank]
    found: dict[str, Any] = {}
    for name, maker in makers(own.shape[1]).items():
        found[name] = [maker(own, 0.07), maker(own, 0.07)]
        found[f"{name}.state"] = maker.state_dict()
    torch.save(found, f"{out}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
