"""Guessing the layout, calibration files, image pairs, and what a user reads when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.data.calibration import read_calibration, write_calibration
from slamfeat.data.homography_pairs import read_homography_pairs
from slamfeat.data.open import LOADERS
from slamfeat.data.pairs import read_posed_images
from slamfeat.errors import InputError
from slamfeat.types import Camera

from .builders import calibration, make_kitti, make_tum, picture, write_png
from .conftest import REPOSITORY


def test_missing_path() -> None:
    with pytest.raises(InputError, match=r"^no such file or folder: nowhere/at/all; check the path$"):
        open_sequence("nowhere/at/all")
    with pytest.raises(InputError, match="no such file or folder"):
        open_sequence("nowhere/at/all", kind="tum")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder is empty"):
        open_sequence(tmp_path)


def test_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(InputError, match=r"unknown layout; looked for rgb\.txt.*mav0.*calib\.txt.*image files"):
        open_sequence(tmp_path)
    with pytest.raises(InputError, match="not a video or a folder"):
        open_sequence(tmp_path / "readme.txt")


def test_the_folder_above_is_recognised(tmp_path: Path) -> None:
    make_tum(tmp_path / "data" / "fr1")
    with pytest.raises(InputError, match=r"did you mean .*data/fr1\?"):
        open_sequence(tmp_path / "data")


def test_kind_and_fps_are_checked(tmp_path: Path) -> None:
    make_tum(tmp_path)
    assert open_sequence(tmp_path, kind="images").kind == "images"
    with pytest.raises(InputError, match="unknown kind of sequence 'tums'; use one of tum, euroc"):
        open_sequence(tmp_path, kind="tums")
    with pytest.raises(InputError, match="fps must be positive"):
        open_sequence(tmp_path, fps=0)
    with pytest.raises(InputError, match=r"calib\.txt"):
        open_sequence(tmp_path, kind="kitti")


def test_every_loader_detects_its_own_layout_only(tmp_path: Path) -> None:
    tum, kitti = make_tum(tmp_path / "a"), make_kitti(tmp_path / "b", np.eye(3, 4)[None])
    for path, kind in ((tum, "tum"), (kitti, "kitti")):
        assert next(name for name, loader in LOADERS.items() if loader.detect(path)) == kind
    assert [name for name, loader in LOADERS.items() if loader.kind != name] == []


def test_camera_may_be_an_object_or_a_file(tmp_path: Path) -> None:
    make_tum(tmp_path / "s")
    camera = Camera(64, 48, 70, 70, 32, 24)
    assert open_sequence(tmp_path / "s", camera=camera).camera == camera
    path = write_calibration(tmp_path / "cam.json", camera)
    assert open_sequence(tmp_path / "s", camera=str(path)).camera == camera


def test_calibration_round_trip(tmp_path: Path) -> None:
    camera = Camera(640, 480, 517.3, 516.5, 318.6, 255.3, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633))
    read = read_calibration(write_calibration(tmp_path / "calibration.json", camera, 5000.0, gt="motion capture"))
    assert (read.camera, read.depth_scale) == (camera, 5000.0)
    assert json.loads((tmp_path / "calibration.json").read_text())["gt"] == "motion capture"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fx": float("nan")}, "'fx' is nan; it must be a finite number"),
        ({"cy": float("inf")}, "'cy' is inf"),
        ({"fx": "500"}, "'fx' must be a number, found '500'"),
        ({"fx": True}, "'fx' must be a number"),
        ({"fx": None}, "'fx' must be a number"),
        ({"fx": -3.0}, "focal lengths must be positive"),
        ({"width": 64.5}, "'width' must be a whole number"),
        ({"width": 0}, "not positive"),
        ({"dist": [0.1, 0.2]}, "0, 4, 5 or 8 values"),
        ({"dist": [0.1, 0.2, float("nan"), 0]}, r"'dist\[2\]' is nan"),
        ({"dist": 0.1}, "'dist' must be a list"),
        ({"model": "fisheye"}, "model 'fisheye' is not supported"),
        ({"depth_scale": 0.001}, r"'depth_scale' 0\.001 is implausible"),
        ({"depth_scale": float("nan")}, "'depth_scale' is nan"),
    ],
)
def test_calibration_errors_name_file_and_key(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    make_tum(tmp_path)
    (tmp_path / "calibration.json").write_text(json.dumps(calibration(**changes)))
    with pytest.raises(InputError, match=rf"calibration\.json: .*{message}"):
        open_sequence(tmp_path)


def test_calibration_missing_key_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    values = calibration()
    del values["cx"]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"'cx' is missing; the file should look like \{"):
        read_calibration(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not a JSON file"):
        read_calibration(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="one JSON object"):
        read_calibration(path)
    with pytest.raises(InputError, match=r"absent\.json: No such file"):
        read_calibration(tmp_path / "absent.json")


def test_missing_calibration_of_a_sequence(tmp_path: Path) -> None:
    make_tum(tmp_path)
    (tmp_path / "calibration.json").unlink()
    with pytest.raises(InputError, match=r"no calibration; write .*calibration\.json such as \{.*\}"):
        _ = open_sequence(tmp_path).camera


def test_import_does_no_work() -> None:
    code = "import sys, slamfeat.data; print('cv2' in sys.modules)"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert (run.stdout.strip(), run.stderr) == ("False", "")


@pytest.mark.parametrize("names", [("img1.png", "img2.png", "H1to2p"), ("1.png", "2.png", "H_1_2")])
def test_homography_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for i, name in enumerate(names[:2]):
        write_png(tmp_path / name, picture(i))
    (tmp_path / names[2]).write_text("1.0 0.5 2\n0 1 3\n\n0 1e-4 1\n")
    (pair,) = read_homography_pairs(tmp_path)
    assert (pair.image0.name, pair.image1.name) == names[:2]
    np.testing.assert_array_equal(pair.H, [[1, 0.5, 2], [0, 1, 3], [0, 1e-4, 1]])
    (tmp_path / names[2]).write_text("1 0 0\n1 0 0\n0 0 1\n")
    with pytest.raises(InputError, match="not an invertible 3x3"):
        read_homography_pairs(tmp_path)
    (tmp_path / names[2]).write_text("1 0 0\n0 1 0\n0 0 1\n")
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError, match="image 2 is missing"):
        read_homography_pairs(tmp_path)
    (tmp_path / names[2]).unlink()
    with pytest.raises(InputError, match="has no homographies"):
        read_homography_pairs(tmp_path)


def write_posed(root: Path, **changes: object) -> Path:
    turned = [[0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]
    for i in range(2):
        write_png(root / "images" / f"{i:04d}.png", picture(i))
    values = {"K": [[50, 0, 32], [0, 51, 24], [0, 0, 1]], "width": 64, "height": 48,
              "poses_c2w": {"0000.png": np.eye(4).tolist(), "0001.png": turned}}  # fmt: skip
    (root / "cameras.json").write_text(json.dumps(values | changes))
    return root


def test_posed_images(tmp_path: Path) -> None:
    views = read_posed_images(write_posed(tmp_path))
    assert views.camera == Camera(64, 48, 50, 51, 32, 24) and len(views.images) == 2
    (pair,) = views.pairs()
    # The second view sits at x = 5 and looks along x: the world's origin is 5 m behind it.
    np.testing.assert_allclose(pair.T_1_0 @ [0, 0, 0, 1], [0, 0, -5, 1])
    assert views.pairs(max_step=0) == []


def test_posed_images_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cameras\.json: No such file"):
        read_posed_images(tmp_path)
    write_posed(tmp_path, poses_c2w={"0000.png": (2 * np.eye(4)).tolist()})
    with pytest.raises(InputError, match="not orthonormal"):
        read_posed_images(tmp_path)
    write_posed(tmp_path, poses_c2w={"0007.png": np.eye(4).tolist()})
    with pytest.raises(InputError, match=r"0007\.png: named in"):
        read_posed_images(tmp_path)
    write_posed(tmp_path)
    (tmp_path / "cameras.json").write_text("{}")
    with pytest.raises(InputError, match="'K' is missing"):
        read_posed_images(tmp_path)


@pytest.mark.shared
def test_real_pairs(shared: Path) -> None:
    graf = read_homography_pairs(shared / "pairs" / "oxford_graf")
    assert [pair.image1.name for pair in graf] == ["img2.ppm", "img3.ppm"] and graf[0].image0.name == "img1.ppm"
    for name, count in (("fountain-P11", 11), ("Herz-Jesus-P8", 8)):
        views = read_posed_images(shared / "pairs" / f"strecha_{name}")
        assert len(views.images) == count and len(views.pairs(max_step=1)) == count - 1
        steps = [np.linalg.norm(pair.T_1_0[:3, 3]) for pair in views.pairs(max_step=1)]
        assert 0.5 < np.median(steps) < 5.0, "metres"
