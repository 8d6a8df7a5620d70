"""Pictures of rooms against a plain ray caster, and texels where they must be to a part of a pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from room_scenes import EVENLY, SIZE, K, cast, covered, plain, projected, rectangle, room, world_of
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import make_pose
from slamfeat.train.room_config import RoomConfig
from slamfeat.train.room_render import render
from slamfeat.train.rooms import Lights, make_room
from slamfeat.train.textures import Textures

KINDS = {
    "room": RoomConfig(corridors=0, desks=0, streets=0, boxes=[3, 3], planes=[4, 4]),
    "corridor": RoomConfig(corridors=1, desks=0, streets=0),
    "desk": RoomConfig(corridors=0, desks=1, streets=0),
    "street": RoomConfig(corridors=0, desks=0, streets=1),
}


@pytest.fixture(scope="module")
def textures(sample: Path) -> Textures:
    return Textures([sample / "rgb"], "all")


def looking(*angles: float, at: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    """A pose turned by yaw, pitch and roll in degrees."""
    return make_pose(Rotation.from_euler("yxz", angles, degrees=True).as_matrix(), at)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_and_rectangles_are_those_of_a_plain_ray_caster(kind: str, textures: Textures) -> None:
    rng = np.random.default_rng(3)
    scene = make_room(rng, textures, KINDS[kind])
    assert scene.layout.kind == kind
    met: set[int] = set()
    for _ in range(3):
        while not scene.layout.is_free(eye := rng.uniform(scene.layout.low, scene.layout.high)):
            pass
        pose = looking(*rng.uniform([-180, -20, -30], [180, 20, 30]), at=tuple(eye))
        seen = render(scene, K, pose, SIZE)
        pixels = np.column_stack([rng.integers(0, SIZE[0], 150), rng.integers(0, SIZE[1], 150)])
        for x, y in pixels:
            number, depth = cast(scene, K, pose, np.array([x, y]))
            assert (seen.rectangle[y, x], seen.depth[y, x]) == (number, pytest.approx(depth, rel=1e-5))
        met |= set(np.unique(seen.rectangle))
    assert len(met) > 5


def test_a_closed_room_has_no_holes(textures: Textures) -> None:
    scene = make_room(np.random.default_rng(5), textures, KINDS["room"])
    eye = (scene.layout.low + scene.layout.high) / 2
    for yaw in range(0, 360, 60):
        assert (render(scene, K, looking(yaw, 10, 5, at=tuple(eye)), SIZE).depth > 0).all()


@pytest.mark.parametrize("pose", [looking(0, 0, 0), looking(140, -7, 20), looking(30, -35, -60)])
def test_a_floor_through_the_cameras_plane(pose: np.ndarray) -> None:
    """It goes on behind the camera; depth is the height over the slope of the ray."""
    seen = render(room(rectangle([-500, 1.4, -500], [1000, 0, 0], [0, 0, 1000])), K, pose, SIZE)
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = np.linalg.inv(K) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    down = (pose[1, :3] @ rays).reshape(x.shape)
    with np.errstate(divide="ignore"):
        depth = np.where(down > 0, 1.4 / down, 0)
    meets = (down > 0) & (np.abs((pose[:3, :3] @ rays).reshape(3, *x.shape) * depth).max(0) < 500)
    assert 0.2 < meets.mean() < 1
    assert np.array_equal(seen.rectangle == 0, meets)
    np.testing.assert_allclose(seen.depth[meets], depth[meets], rtol=1e-5)
    assert (seen.image[seen.rectangle < 0] == seen.image[seen.rectangle < 0][0]).mean() > 0.99


def test_what_is_behind_the_camera_or_edge_on_is_not_seen() -> None:
    behind, edge_on = rectangle([-1, -1, -2], [2, 0, 0], [0, 2, 0]), rectangle([0, 0, 1], [1, 0, 0], [0, 0, 3])
    assert (render(room(behind, edge_on), K, np.eye(4), SIZE).rectangle == -1).all()


def checkers(cells: tuple[int, int], side: int) -> np.ndarray:
    squares = np.indices(cells[::-1]).sum(0) % 2 * 200 + 30
    return np.repeat(np.kron(squares, np.ones((side, side)))[..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "side", "distance", "angles"),
    [
        ("a texel is about a pixel", 16, 1.0, (0, 0, 0)),
        ("slanted and rolled", 16, 1.0, (35, -10, 20)),
        ("texels are large", 6, 0.8, (-20, 15, -8)),
        ("first half", 36, 1.0, (20, 10, 5)),
        ("third half, odd sides", 131, 1.0, (-30, 0, 10)),
    ],
)
def test_texels_are_where_they_are_projected(name: str, side: int, distance: float, angles: tuple[float, ...]) -> None:
    """Corners of a checkerboard by OpenCV's sub-pixel search; half a pixel anywhere on the way would show."""
    cells = (14, 10)
    texels = checkers(cells, side)
    turned = Rotation.from_euler("yxz", angles, degrees=True).as_matrix()
    u, v = turned[:, 0] * 0.7, turned[:, 1] * 0.5
    board = rectangle(list(np.array([0, 0, distance]) - (u + v) / 2), list(u), list(v), covered(texels))
    # Off the pixel grid, else errors of rounding might cancel.
    pose = looking(1.3, -0.7, 0.4, at=(0.013, -0.007, 0.0))
    image = render(room(board), K, pose, SIZE).image
    corners = np.stack(np.meshgrid(np.arange(1, cells[0]), np.arange(1, cells[1])), -1).reshape(-1, 2) * side - 0.5
    truth = projected(K, pose, world_of(board, corners, (texels.shape[1], texels.shape[0])))
    inside = ((truth > 15) & (truth < np.array(SIZE) - 16)).all(1)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    start = truth[inside].astype(np.float32)[:, None] + np.float32(0.8)
    found = cv2.cornerSubPix(grey, start, (6, 6), (-1, -1), stop)[:, 0]
    error = found - truth[inside]
    assert inside.sum() > 60
    assert np.linalg.norm(error, axis=1).max() < 0.15, name
    assert np.abs(error.mean(0)).max() < 0.03, name


def test_far_checkers_become_grey_instead_of_aliasing() -> None:
    """Squares of a third of a pixel; without filtering they would stay black and white."""
    board = rectangle([-1, -1, 6], [2, 0, 0], [0, 2, 0], covered(checkers((500, 500), 4)))
    image = render(room(board), K, looking(0, 0, 7), SIZE).image
    inside = image[200:270, 290:350].astype(float)
    assert inside.std() < 12 and inside.mean() == pytest.approx(image[236, 321].mean(), abs=25)


def test_a_floor_is_sharp_below_and_does_not_alias_towards_the_horizon() -> None:
    """Squares of 2 cm: 3 m ahead each is 3.3 x 1.3 px, 6 m ahead 1.7 x 0.3 px, of which none can be made out."""
    floor = rectangle([-1.5, 1.2, 1], [3, 0, 0], [0, 0, 10], covered(checkers((150, 500), 4)))
    image = render(room(floor), K, looking(0, 0, 0.4), SIZE).image.astype(float)
    near, far = (round(236.8 + 480 * 1.2 / z) for z in (3, 6))
    assert image[near - 2 : near + 3, 300:340].std() > 25
    assert image[far - 2 : far + 3, 300:340].std() < 6


def test_edges_are_shaded_by_how_much_of_a_pixel_they_cover() -> None:
    slope = np.array([1, 0.13, 0]) * 4
    dark = rectangle([-2, -0.1, 3], list(slope), [-0.13 * 4, 4, 0], plain(20))
    light = rectangle([-9, -9, 8], [18, 0, 0], [0, 18, 0], plain(200))
    seen = render(room(dark, light), K, np.eye(4), SIZE)
    top = dark.origin + np.linspace(0, 1, 7)[1:-1, None] * dark.u
    x, y = projected(K, np.eye(4), top).T
    levels = seen.image[..., 0].astype(float)
    bright, black = levels[20, 20], levels[400, 320]
    assert len(np.unique(levels)) >= 5 and bright > black + 80
    for column in range(int(x[0]), int(x[-1])):
        edge = np.interp(column, x, y)
        row = np.floor(edge + 0.5).astype(int)
        share = (row + 0.5 - edge) * black + (edge - row + 0.5) * bright
        assert levels[row, column] == pytest.approx(share, abs=(bright - black) * 0.3)


def test_light_falls_off_and_follows_lamberts_law() -> None:
    wall = rectangle([-2, -2, 2], [4, 0, 0], [0, 4, 0], plain(100))
    lamp = Lights(0.2, np.array([[0.5, 0.0, 1.0]]), np.array([1.0]), 1.5)
    image = render(room(wall), K, np.eye(4), SIZE, lamp).image[..., 0].astype(float)
    x, y = np.meshgrid(np.arange(0, SIZE[0], 40), np.arange(0, SIZE[1], 40))
    rays = np.stack([x, y, np.ones(x.shape)], -1) @ np.linalg.inv(K).T
    points = 2 * rays
    to_light = np.array([0.5, 0, 1.0]) - points
    far = np.linalg.norm(to_light, axis=-1)
    expected = 0.2 + (1.0 / far) / (1 + far**2 / 1.5**2)  # the wall's normal is the z axis; the lamp is 1 m before it
    ratio = image[y, x] / expected
    assert ratio.std() / ratio.mean() < 0.02
    behind = Lights(0.2, np.array([[0.5, 0.0, 3.0]]), np.array([1.0]), 1.5)
    assert np.ptp(render(room(wall), K, np.eye(4), SIZE, behind).image) == 0


def test_rendering_is_repeatable_and_does_not_depend_on_what_was_seen_before(textures: Textures) -> None:
    poses = [looking(0, 0, 0, at=(0, -1.5, 2)), looking(90, 5, 3, at=(0, -1.5, 2))]
    scenes = [make_room(np.random.default_rng(11), textures, KINDS["corridor"]) for _ in range(2)]
    first = [render(scenes[0], K, pose, SIZE, EVENLY).image for pose in poses]
    second = [render(scenes[1], K, pose, SIZE, EVENLY).image for pose in reversed(poses)]
    assert np.array_equal(first[0], second[1]) and np.array_equal(first[1], second[0])
