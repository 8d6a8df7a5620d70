"""Puts the demo's sequence into the wheel; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SAMPLE = Path("datasets") / "sample" / "rgbd_dataset_freiburg1_rpy_60"


class BuildWithSample(build_py):
    """A source checkout keeps the sequence among the data sets; an installed package has no such folder."""

    def run(self) -> None:
        """Build, then copy the sequence in; an editable install reads the checkout."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(SAMPLE, Path(self.build_lib) / "slamfeat" / "sample" / SAMPLE.name, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithSample})
