"""The memory benchmark: the sequence it makes, and the figures it draws from readings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory
from slamfeat.data import open_sequence
from slamfeat.errors import InputError
from slamfeat.image import read_image


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Three small frames of a stereo pair; the right image is a shade lighter."""
    import cv2

    folder = tmp_path / "kitti"
    for camera in range(2):
        (folder / f"image_{camera}").mkdir(parents=True)
        for number in range(3):
            picture = np.full((64, 96), 10 * number + camera, np.uint8)
            cv2.imwrite(str(folder / f"image_{camera}" / f"{number:06}.png"), picture)
    (folder / "calib.txt").write_text("P0: 50 0 48 0 0 50 32 0 0 0 1 0\nP1: 50 0 48 -25 0 50 32 0 0 0 1 0\n")
    return folder


def test_to_and_fro_opens_as_a_sequence(kitti: Path, tmp_path: Path) -> None:
    memory.to_and_fro(kitti, tmp_path / "long", 8)
    sequence = open_sequence(tmp_path / "long")
    shades = [int(frame.image[0, 0, 0]) // 10 for frame in sequence]
    assert shades == [0, 1, 2, 1, 0, 1, 2, 1]
    assert np.allclose(np.diff(sequence.timestamps), 0.1) and sequence.groundtruth is None
    right = [int(frame.right[0, 0, 0]) for frame in sequence.for_mode("stereo") if frame.right is not None]
    assert right == [1, 11, 21, 11, 1, 11, 21, 11]
    assert read_image(kitti / "image_0" / "000000.png").shape == (64, 96, 3)
    with pytest.raises(InputError, match="not a KITTI sequence"):
        memory.to_and_fro(tmp_path, tmp_path / "other", 8)


def found(grows_mb_a_frame: float, frames: int = 1000, above: float = 400.0) -> dict[str, object]:
    numbers = np.arange(25, frames + 1, 25)
    resident = 230 + above - 50 * np.exp(-numbers / 20) + grows_mb_a_frame * numbers
    return {
        "baseline_mb": 230.0, "preparing_mb": 1500.0, "tracking_peak_mb": float(resident.max()),
        "peak_mb": float(resident.max()) + 5, "samples": np.stack([numbers, resident], 1).tolist(), "frames": frames,
        "tracked": frames, "keyframes": 9, "fps": 5.0, "frontend": "x", "mode": "mono",
    }  # fmt: skip


def test_figures_tell_growth_from_warming_up() -> None:
    row = memory.figures(found(0.0))
    assert row["slope_mb_per_1000_frames"] == pytest.approx(0, abs=0.1) and row["flat"] and row["within_limit"]
    assert row["peak_above_mb"] == pytest.approx(405, abs=0.1) and row["preparing_above_mb"] == 1270
    row = memory.figures(found(0.05))
    assert row["slope_mb_per_1000_frames"] == pytest.approx(50, abs=0.1) and row["flat"] is False
    assert not memory.figures(found(0.0, above=1200))["within_limit"]
    assert memory.figures(found(0.0, frames=200))["flat"] is None


HOLDING = """
import json
import numpy as np
from benchmarks.memory_worker import forget_peak, resident_mb

readings = [resident_mb()]
held = np.ones(25_000_000)
readings += [resident_mb(), resident_mb("VmHWM")]
del held
forget_peak()
readings.append(resident_mb("VmHWM"))
print(json.dumps(readings))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_follows_what_is_held() -> None:
    """In a process of its own: one that has held more before may give that back, or fill it, meanwhile."""
    words = [sys.executable, "-c", HOLDING]
    root = Path(memory.__file__).parent.parent
    printed = subprocess.run(words, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout
    before, holding, peak, after = json.loads(printed)
    assert 190 < holding - before < 210
    assert peak >= holding
    assert after < before + 10
