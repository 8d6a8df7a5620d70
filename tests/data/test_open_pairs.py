"""From a path to pairs: what is guessed, which frames pair up, and whether SIFT's matches agree with the geometry."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import PairGroup, open_pairs, open_sequence
from slamfeat.data.homography_pairs import HomographyPair, hpatches_folders
from slamfeat.data.pairs import PosedPair
from slamfeat.errors import InputError
from slamfeat.image import read_image
from slamfeat.types import Camera

from .builders import make_kitti, make_tum, picture, write_png


def sift_matches(image0: Path, image1: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of SIFT's unambiguous matches, (M, 2) each."""
    sift, matcher = cv2.SIFT.create(2000), cv2.BFMatcher()
    found = [
        sift.detectAndCompute(cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY), None) for path in (image0, image1)
    ]
    (p0, d0), (p1, d1) = found
    good = [best for best, second in matcher.knnMatch(d0, d1, k=2) if best.distance < 0.7 * second.distance]
    return np.array([p0[m.queryIdx].pt for m in good]), np.array([p1[m.trainIdx].pt for m in good])


def lines_off(T_1_0: np.ndarray, cameras: tuple[Camera, Camera], p0: np.ndarray, p1: np.ndarray) -> float:
    """Median distance in pixels of points of image 1 from the epipolar lines of their partners, by OpenCV alone."""
    rays = [
        cv2.undistortPoints(p[:, None], camera.K, np.array(camera.dist))[:, 0]
        for p, camera in zip((p0, p1), cameras, strict=True)
    ]
    tx, ty, tz = T_1_0[:3, 3] / np.linalg.norm(T_1_0[:3, 3])
    essential = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ T_1_0[:3, :3]
    lines = cv2.computeCorrespondEpilines(rays[0][:, None].astype(np.float32), 1, essential)[:, 0]
    distance = np.abs((np.c_[rays[1], np.ones(len(p1))] * lines).sum(1))
    return float(np.median(distance) * cameras[1].fx)


def check_geometry(pair: PosedPair, within_px: float) -> None:
    """SIFT's matches lie on the pair's epipolar lines, and not on those of the opposite direction."""
    p0, p1 = sift_matches(pair.image0, pair.image1)
    assert len(p0) > 60
    cameras = (pair.camera0, pair.camera1)
    assert lines_off(pair.T_1_0, cameras, p0, p1) < within_px
    assert lines_off(np.linalg.inv(pair.T_1_0), cameras, p0, p1) > 5 * within_px, "the other direction"


def stems(group: PairGroup) -> list[tuple[str, str]]:
    return [(pair.image0.stem, pair.image1.stem) for pair in group.pairs]


def test_sample_sequence_in_groups_of_gaps(sample: Path) -> None:
    groups = open_pairs(sample)
    assert [group.name for group in groups] == [f"gap {gap}" for gap in (1, 2, 4, 8, 16, 32)]
    assert [len(group.pairs) for group in groups] == [60 - gap for gap in (1, 2, 4, 8, 16, 32)]
    assert all((group.kind, group.data) == ("pose", sample.name) for group in groups)
    records, camera = open_sequence(sample).records, open_sequence(sample).camera
    last = groups[2].pairs[-1]
    assert isinstance(last, PosedPair) and (last.camera0, last.camera1) == (camera, camera)
    assert (last.image0, last.image1) == (records[55].image, records[59].image)


def test_sample_rotation_is_that_of_the_pictures(sample: Path) -> None:
    """The camera turns 2 degrees a frame: OpenCV's rotation between the pictures is the pair's, not its inverse."""
    (group,) = open_pairs(sample, gaps=(4,), per_gap=3)
    for pair in group.pairs:
        assert isinstance(pair, PosedPair)
        p0, p1 = sift_matches(pair.image0, pair.image1)
        x0, x1 = (cv2.undistortPoints(p[:, None], pair.camera0.K, np.array(pair.camera0.dist))[:, 0] for p in (p0, p1))
        H, _ = cv2.findHomography(x0, x1, cv2.RANSAC, 3 / pair.camera0.fx)
        u, _, vt = np.linalg.svd(H)
        rotation = u @ vt * np.sign(np.linalg.det(u @ vt))

        def angle(truth: np.ndarray, found: np.ndarray = rotation) -> float:
            return float(np.degrees(np.linalg.norm(cv2.Rodrigues(truth.T @ found)[0])))

        assert angle(pair.T_1_0[:3, :3]) < 2 < 4 < angle(pair.T_1_0[:3, :3].T)


def test_step_and_number_of_pairs(tmp_path: Path) -> None:
    root = make_tum(tmp_path / "fr", frames=9)
    all_pairs, stepped = (open_pairs(root, gaps=(2,), step=step)[0] for step in (1, 3))
    assert stems(stepped) == stems(all_pairs)[::3] and len(stems(all_pairs)) == 7
    few = open_pairs(root, gaps=(2,), per_gap=3)[0]
    assert stems(few) == stems(all_pairs)[::3], "ends and middle"
    assert open_pairs(root, gaps=(2,), per_gap=99)[0].pairs[0].image0 == all_pairs.pairs[0].image0
    assert [group.name for group in open_pairs(root)] == ["gap 1", "gap 2", "gap 4", "gap 8"], "no empty groups"
    # The camera moves 0.1 m a frame along x, so that what camera 0 sees lies 0.2 m further left for camera 1.
    pair = all_pairs.pairs[0]
    assert isinstance(pair, PosedPair)
    np.testing.assert_allclose(pair.T_1_0, [[1, 0, 0, -0.2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12)


def test_frames_without_truth_or_file_are_in_no_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_tum(tmp_path / "fr", frames=6)
    lines = (root / "groundtruth.txt").read_text().splitlines()
    (root / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[2:]))
    names = [f"{100 + 0.1 * i:.6f}" for i in range(6)]
    (group,) = open_pairs(root, gaps=(1,))
    assert stems(group) == list(itertools.pairwise(names[1:]))
    (root / "rgb" / f"{names[3]}.png").unlink()
    with caplog.at_level(logging.WARNING, logger="slamfeat"):
        (group,) = open_pairs(root, gaps=(1,))
    assert stems(group) == [(names[1], names[2]), (names[4], names[5])] and "1 frames left out" in caplog.text
    with pytest.raises(InputError, match=r"no pair of frames at gaps 5 .*\(4 of 6 frames have\)"):
        open_pairs(root, gaps=(5,))


def make_plane(folder: Path, *names: str) -> Path:
    """A folder of three pictures under homographies named `names`."""
    for i in (1, 2, 3):
        write_png(folder / f"{i}.png", picture(i))
    for i, name in enumerate(names):
        (folder / name).write_text(f"1 0 {i}\n0 1 0\n0 0 1\n")
    return folder


def test_hpatches_in_groups_of_kinds(tmp_path: Path) -> None:
    root = tmp_path / "hpatches"
    for name in ("v_wall", "i_dome", "v_abstract", "i_10", "i_9"):
        make_plane(root / name, "H_1_2", "H_1_3")
    (root / "notes").mkdir()
    assert [path.name for path in hpatches_folders(root)] == ["i_9", "i_10", "i_dome", "v_abstract", "v_wall"]
    assert hpatches_folders(root / "i_9") == [root / "i_9"] and hpatches_folders(root / "notes") == []
    light, view = open_pairs(root)
    assert (light.data, light.name, light.kind) == ("hpatches", "illumination", "homography")
    assert (view.name, len(light.pairs), len(view.pairs)) == ("viewpoint", 6, 4)
    second = view.pairs[1]
    assert isinstance(second, HomographyPair) and second.image1 == root / "v_abstract" / "3.png" and second.H[0, 2] == 1
    (single,) = open_pairs(make_plane(tmp_path / "graf", "H1to2p"))
    assert (single.data, single.name, len(single.pairs)) == ("graf", "all", 1)


def test_a_file_is_a_pair_list(tmp_path: Path) -> None:
    for i in range(2):
        write_png(tmp_path / "pictures" / f"{i}.png", picture(i))
    K, T = "50 0 32 0 50 24 0 0 1", "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1"
    (tmp_path / "scannet_pairs.txt").write_text(f"0.png 1.png 0 0 {K} {K} {T}\n")
    (group,) = open_pairs(tmp_path / "scannet_pairs.txt", images=tmp_path / "pictures")
    assert (group.data, group.name, group.kind, len(group.pairs)) == ("scannet_pairs", "all pairs", "pose", 1)
    with pytest.raises(InputError, match=r"0\.png: named in"):
        open_pairs(tmp_path / "scannet_pairs.txt")


def test_what_cannot_be_paired_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder: nowhere"):
        open_pairs("nowhere")
    (tmp_path / "notes").mkdir()
    looked_for = r"looked for a list.*cameras\.json.*H1to2p.*H_1_2.*ground truth beside rgb\.txt"
    with pytest.raises(InputError, match=rf"notes: unknown layout.*{looked_for}"):
        open_pairs(tmp_path / "notes")
    root = make_kitti(tmp_path / "k", np.tile(np.eye(3, 4), (3, 1, 1)))
    (root / "poses.txt").unlink()
    with pytest.raises(InputError, match=rf"a sequence \(kitti\) without ground truth.*{looked_for}"):
        open_pairs(root)
    for wrong in ({"gaps": ()}, {"gaps": (1, 0)}, {"step": 0}, {"per_gap": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}: must be 1 or more"):
            open_pairs(root, **wrong)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "count"), [("fountain-P11", 55), ("Herz-Jesus-P8", 28)])
def test_strecha_is_what_its_pictures_show(shared: Path, name: str, count: int) -> None:
    (group,) = open_pairs(shared / "pairs" / f"strecha_{name}")
    assert (group.data, group.name, len(group.pairs)) == (f"strecha_{name}", "all pairs", count)
    for pair in (group.pairs[0], group.pairs[-1]):
        assert isinstance(pair, PosedPair)
        check_geometry(pair, 0.5)
        assert 0.5 < np.linalg.norm(pair.T_1_0[:3, 3]) < 5.0, "metres"


@pytest.mark.shared
def test_kitti_is_what_its_pictures_show(shared: Path) -> None:
    groups = open_pairs(shared / "kitti" / "01_first51", gaps=(1, 4, 64), per_gap=4)
    assert [group.name for group in groups] == ["gap 1", "gap 4"] and [len(group.pairs) for group in groups] == [4, 4]
    assert stems(groups[1])[0][0] == "000000" and stems(groups[1])[-1][1] == "000050"
    for pair in groups[1].pairs[:3]:
        assert isinstance(pair, PosedPair)
        # GPS and INS: the rotations are a tenth of a degree off.
        check_geometry(pair, 1.5)
        # Driving forward, camera 1 finds what camera 0 saw nearer.
        assert pair.T_1_0[2, 3] < -3 and abs(pair.T_1_0[2, 3]) > 5 * abs(pair.T_1_0[1, 3])


@pytest.mark.shared
def test_euroc_begins_before_its_ground_truth(shared: Path) -> None:
    path = shared / "euroc" / "V1_01_easy_sparse100"
    groups = open_pairs(path)
    records = open_sequence(path).records
    assert [len(group.pairs) for group in groups] == [99 - gap for gap in (1, 2, 4, 8, 16, 32)]
    first = groups[0].pairs[0]
    assert (first.image0, first.image1) == (records[1].image, records[2].image)


@pytest.mark.shared
def test_graf_is_a_plane_group(shared: Path) -> None:
    (group,) = open_pairs(shared / "pairs" / "oxford_graf")
    assert (group.data, group.name, group.kind, len(group.pairs)) == ("oxford_graf", "all", "homography", 2)
    pair = group.pairs[0]
    assert isinstance(pair, HomographyPair)
    p0, p1 = sift_matches(pair.image0, pair.image1)
    distance = np.linalg.norm(cv2.perspectiveTransform(p0[:, None], pair.H)[:, 0] - p1, axis=1)
    assert len(p0) > 300 and np.median(distance) < 1.0
