"""Puts the demo's sequence, the peers and the training recipes into the wheel; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SAMPLE = Path("datasets") / "sample" / "rgbd_dataset_freiburg1_rpy_60"
PEERS = Path("benchmarks") / "peers"
RECIPES = ("train", "pretrain", "distill")


class BuildWithCopies(build_py):
    """A source checkout keeps them in folders of their own, which an installed package does not have."""

    def run(self) -> None:
        """Build, then copy them in; an editable install reads the checkout."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "slamfeat"
            shutil.copytree(SAMPLE, package / "sample" / SAMPLE.name, dirs_exist_ok=True)
            (package / "bench" / "peers").mkdir(parents=True, exist_ok=True)
            for file in PEERS.glob("[!_]*.py"):
                shutil.copy(file, package / "bench" / "peers")
            for verb in RECIPES:
                shutil.copytree(Path("configs") / verb, package / "recipes" / verb, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithCopies})
