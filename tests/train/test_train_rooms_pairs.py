"""Pairs of views of rooms: labels against rendered depth and against pixels, occlusion, limits, repeatability."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from room_scenes import SIZE, K, cast, projected, rectangle, room

from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.geometry.se3 import invert, make_pose, transform_points
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, TrainingPair
from slamfeat.train.room_config import CameraConfig, RoomConfig, RoomPairsConfig
from slamfeat.train.room_pairs import RoomPairs
from slamfeat.train.room_rays import RoomView
from slamfeat.train.room_render import render_view
from slamfeat.train.room_transfer import RoomTransfer
from slamfeat.train.textures import Textures

PAIRS = range(8)


@pytest.fixture(scope="module")
def source(sample: Path) -> RoomPairs:
    small = CameraConfig(sizes=[[320, 240], [376, 240], [620, 188]])
    return RoomPairs(Textures([sample / "rgb"], "all"), RoomPairsConfig(cameras=small, light_change=0.0))


@pytest.fixture(scope="module")
def pairs(source: RoomPairs) -> list[TrainingPair]:
    return [source.pair(index) for index in PAIRS]


def some_points(image: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    size = np.array(image.shape[1::-1])
    return np.random.default_rng(seed).uniform(-0.5, size - 0.5, (count, 2))


@pytest.mark.parametrize("index", PAIRS)
def test_labels_agree_with_rendered_depth_and_pose(source: RoomPairs, pairs: list[TrainingPair], index: int) -> None:
    """Pixels lifted by the depth buffer and moved by the pose land where the transfer says, and are seen as it says."""
    pair, (scene, cameras, _) = pairs[index], source.scene(index)
    depth0, depth1 = (render_view(scene, view).depth for view in (cameras.view0, cameras.view1))
    rng = np.random.default_rng(index)
    pixels = np.column_stack([rng.integers(0, depth0.shape[1], 600), rng.integers(0, depth0.shape[0], 600)])
    z = depth0[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    moved = pair.transfer.forth(pixels.astype(np.float64))
    assert np.isfinite(moved.points).all() and (moved.state[z == 0] == UNKNOWN).all()
    local = np.column_stack([pixels, np.ones(600)]) @ np.linalg.inv(pair.K0).T * z[:, None]
    there = transform_points(pair.T_1_0, local)
    with np.errstate(divide="ignore", invalid="ignore"):
        landed = (there @ pair.K1.T)[:, :2] / there[:, 2:]
    sure = moved.state == VISIBLE
    assert sure.sum() > 60
    np.testing.assert_allclose(moved.points[sure], landed[sure], atol=0.02)
    # The nearest pixel of the other depth buffer: as deep as the point where it is seen, nearer where it is hidden.
    height, width = depth1.shape
    inside = (there[:, 2] > 0.02) & ((landed >= 0) & (landed <= (width - 1, height - 1))).all(1)
    x, y = np.rint(np.where(inside[:, None], landed, 0)).astype(int).T
    seen = inside & (depth1[y, x] > there[:, 2] * 0.98)
    hidden = moved.state == HIDDEN
    assert (seen[sure & inside]).mean() > 0.98
    nearer = (depth1[y, x] > 0) & (depth1[y, x] < there[:, 2])
    assert nearer[hidden & inside].sum() >= 0.98 * (hidden & inside).sum()
    assert (sure & ~inside).sum() < 10  # half a pixel at the border


@pytest.mark.parametrize("index", PAIRS)
def test_there_and_back_is_the_same_place(pairs: list[TrainingPair], index: int) -> None:
    transfer = pairs[index].transfer
    for points, there, back in (
        (some_points(pairs[index].image0, 500), transfer.forth, transfer.back),
        (some_points(pairs[index].image1, 500), transfer.back, transfer.forth),
    ):
        moved = there(points)
        seen = moved.state == VISIBLE
        returned = back(moved.points[seen])
        assert seen.sum() > 30
        assert (returned.state != HIDDEN).mean() > 0.999
        sure = returned.state == VISIBLE
        np.testing.assert_allclose(returned.points[sure], points[seen][sure], atol=1e-5)


def test_patches_around_corresponding_points_look_alike(pairs: list[TrainingPair]) -> None:
    """By a local affine map from the labels themselves; a label 2 px off must look clearly worse."""
    best, off = [], []
    for pair in pairs:
        grey0, grey1 = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (pair.image0, pair.image1))
        found = cv2.goodFeaturesToTrack(grey0, 150, 0.02, 8)[:, 0].astype(np.float64)
        for point in found[pair.transfer.forth(found).state == VISIBLE]:
            grid = np.stack(np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)), -1).reshape(-1, 2)
            around = pair.transfer.forth(point + grid)
            if (around.state != VISIBLE).any() or np.ptp(around.points, axis=0).min() < 6:
                continue  # an edge, or so much smaller there that there is nothing to compare
            a, b, c = (
                cv2.remap(grey, *moved.reshape(2, 9, 9).astype(np.float32), cv2.INTER_LINEAR).astype(float)
                for grey, moved in ((grey0, (point + grid).T), (grey1, around.points.T), (grey1, around.points.T + 2))
            )
            if min(a.std(), b.std(), c.std()) > 6:
                best.append(np.corrcoef(a.ravel(), b.ravel())[0, 1])
                off.append(np.corrcoef(a.ravel(), c.ravel())[0, 1])
    assert len(best) > 100
    assert np.median(best) > 0.93 and np.percentile(best, 10) > 0.7
    assert np.median(off) < 0.6


def board_before_wall(offset: float = 0.5) -> tuple[RoomTransfer, RoomView]:
    """A board 1 m across at 2 m, a wall at 4 m; the second camera stands `offset` m to the right."""
    scene = room(rectangle([-0.5, -0.5, 2], [1, 0, 0], [0, 1, 0]), rectangle([-9, -9, 4], [18, 0, 0], [0, 18, 0]))
    poses = [np.eye(4), make_pose(np.eye(3), [offset, 0, 0])]
    views = [RoomView.of(scene.rectangles, K, pose, SIZE) for pose in poses]
    return RoomTransfer(*views), views[0]


def test_hidden_and_unknown_where_a_board_stands_before_a_wall() -> None:
    """All by similar triangles: f/z * offset is the shift; the board hides a strip of the wall from each camera."""
    transfer, _ = board_before_wall()
    x = np.arange(0.1, 640, 0.25)
    row = np.column_stack([x, np.full(len(x), 236.8)])
    moved = transfer.forth(row)
    left, right = 321.3 - 0.25 * 500, 321.3 + 0.25 * 500  # the board in view 0
    on_board = (x > left) & (x < right)
    shift = np.where(on_board, 500 * 0.5 / 2, 500 * 0.5 / 4)
    np.testing.assert_allclose(moved.points[:, 0], x - shift, atol=1e-9)
    # In view 1 the board covers left - 125 .. right - 125; what of the wall lands there is hidden.
    landed = x - shift
    covered = ~on_board & (landed > left - 125) & (landed < right - 125)
    outside = landed < -0.5
    edges = [np.abs(x - left), np.abs(x - right)]
    edges += [np.abs(landed - (left - 125)), np.abs(landed - (right - 125))]
    near, clear = np.min(edges, 0) < 1.35, np.min(edges, 0) > 1.6
    assert (moved.state[near & ~outside] == UNKNOWN).all()
    expected = np.where(covered | outside, HIDDEN, VISIBLE)
    assert covered.sum() > 200 and (moved.state[clear] == expected[clear]).all()


def test_an_edge_without_parallax_is_no_jump() -> None:
    """From the same place nothing is hidden, and where two walls meet nothing is either: corners can be learned."""
    turned = board_before_wall(offset=0.0)[0]
    row = np.column_stack([np.arange(0, 640, 0.5), np.full(1280, 200.0)])
    assert (turned.forth(row).state == VISIBLE).all()
    corner = room(rectangle([-3, -2, 3], [3, 0, 3], [0, 4, 0]), rectangle([0, -2, 6], [3, 0, -3], [0, 4, 0]))
    views = [RoomView.of(corner.rectangles, K, make_pose(np.eye(3), [x, 0, 0]), SIZE) for x in (0.0, 0.3)]
    crease = projected(K, np.eye(4), np.array([[0, 0.2, 6]]))[0]
    around = crease + np.stack(np.meshgrid(np.linspace(-3, 3, 25), np.linspace(-3, 3, 25)), -1).reshape(-1, 2)
    assert (RoomTransfer(*views).forth(around).state == VISIBLE).all()


def test_sub_pixel_points_beside_an_edge_lie_on_their_own_surface() -> None:
    """A tenth of a pixel decides, not the nearest pixel of a buffer."""
    transfer, view = board_before_wall()
    edge = 321.3 + 125
    points = np.array([[edge - 0.1, 236.8], [edge + 0.1, 236.8]])
    index, inverse = view.hits(points)
    assert index.tolist() == [0, 1] and np.allclose(1 / inverse, [2, 4])
    np.testing.assert_allclose(transfer.forth(points).points[:, 0], [edge - 0.1 - 125, edge + 0.1 - 62.5])


def test_behind_the_other_camera_is_hidden_and_the_sky_unknown() -> None:
    scene = room(rectangle([-2, 1, -10], [4, 0, 0], [0, 0, 20]))
    views = [RoomView.of(scene.rectangles, K, make_pose(np.eye(3), [0, 0, z]), SIZE) for z in (0.0, 6.0)]
    moved = RoomTransfer(*views).forth(np.array([[321.3, 460.0], [321.3, 100.0], [321.3, 290.0]]))
    assert moved.state.tolist() == [HIDDEN, UNKNOWN, VISIBLE] and np.isfinite(moved.points).all()
    # The sky keeps its direction: it moves with rotation only.
    np.testing.assert_allclose(moved.points[1], [321.3, 100.0], atol=0.01)
    none = RoomTransfer(*views).forth(np.zeros((0, 2)))
    assert none.points.shape == (0, 2) and none.state.shape == (0,)


def test_hits_are_those_of_a_plain_ray_caster_off_the_pixel_grid(source: RoomPairs) -> None:
    scene, cameras, _ = source.scene(3)
    view = cameras.view0
    points = np.random.default_rng(1).uniform(0, min(view.size), (200, 2))
    index, inverse = view.hits(points)
    for point, number, nearness in zip(points, index, inverse, strict=True):
        expected, depth = cast(scene, view.K, invert(view.T_camera_world), point)
        assert number == expected and (expected < 0 or 1 / nearness == pytest.approx(depth, rel=1e-9))


def test_a_pair_depends_on_its_number_alone(source: RoomPairs, pairs: list[TrainingPair]) -> None:
    other = RoomPairs(source.textures, source.config)
    again = other.pair(5)
    assert np.array_equal(again.image0, pairs[5].image0) and np.array_equal(again.image1, pairs[5].image1)
    assert np.array_equal(again.T_1_0, pairs[5].T_1_0) and again.name == pairs[5].name
    points = some_points(pairs[5].image0, 100)
    carried, here = pickle.loads(pickle.dumps(again.transfer)).forth(points), pairs[5].transfer.forth(points)
    assert np.array_equal(carried.state, here.state)
    np.testing.assert_allclose(carried.points, here.points, rtol=1e-9)  # sums of another order where memory differs
    seeded = RoomPairs(source.textures, replace(source.config, seed=1)).scene(5)[1]
    assert not np.array_equal(seeded.T_1_0, again.T_1_0)
    assert len({pair.T_1_0.tobytes() for pair in pairs}) == len(pairs)


def test_overlap_keeps_its_limits_and_motions_their_kind(source: RoomPairs) -> None:
    config = replace(source.config, cameras=CameraConfig(overlap=[0.4, 0.7]))
    scenes = [RoomPairs(source.textures, config).scene(index) for index in range(60)]
    for _, cameras, _ in scenes[:20]:
        # Counted anew with random points.
        shares = [
            np.mean(move(np.random.default_rng(0).uniform(0, view.size, (2000, 2))).state == VISIBLE)
            for move, view in (
                (RoomTransfer(cameras.view0, cameras.view1).forth, cameras.view0),
                (RoomTransfer(cameras.view0, cameras.view1).back, cameras.view1),
            )
        ]
        assert 0.3 < np.mean(shares) < 0.75
        assert 0.4 <= cameras.overlap <= 0.7
    assert {cameras.motion for _, cameras, _ in scenes} == {"step", "wide", "zoom", "turn", "drive"}
    assert {scene.layout.kind for scene, _, _ in scenes} == {"room", "corridor", "desk", "street"}
    for scene, cameras, _ in scenes:
        x, y = np.meshgrid(np.linspace(0, cameras.view0.size[0], 40), np.linspace(0, cameras.view0.size[1], 30))
        seen = cameras.view0.hits(np.column_stack([x.ravel(), y.ravel()]))[0]
        distinct = [i >= 0 and scene.rectangles[i].surface.distinct for i in seen]
        assert np.mean(distinct) > 0.25
        eyes = [invert(view.T_camera_world)[:3, 3] for view in (cameras.view0, cameras.view1)]
        assert all(scene.layout.is_free(eye) for eye in eyes)


@pytest.mark.parametrize(
    ("motion", "least_deg", "most_deg"), [("wide", 10, 90), ("zoom", 0, 30), ("turn", 5, 60), ("step", 0, 25)]
)
def test_motions_turn_as_far_as_they_say(source: RoomPairs, motion: str, least_deg: float, most_deg: float) -> None:
    only = {name: float(name == motion) for name in ("step", "wide", "zoom", "turn", "drive")}
    cameras = CameraConfig(**only, street_drive=0.0, rare_roll=0.0, other_camera=0.0)
    made = [RoomPairs(source.textures, RoomPairsConfig(cameras=cameras)).scene(i)[1] for i in range(30)]
    # The angle between the optical axes: roll does not count.
    turns = np.degrees(np.arccos([np.clip(pair.T_1_0[2, 2], -1, 1) for pair in made]))
    assert least_deg <= np.median(turns) and turns.max() < most_deg
    rolls = [np.degrees(np.arctan2(pair.T_1_0[1, 0], pair.T_1_0[0, 0])) for pair in made]
    assert np.abs(rolls).max() < 45 and np.std(rolls) > 1


def test_lights_change_only_where_asked(source: RoomPairs) -> None:
    changed = RoomPairs(source.textures, replace(source.config, light_change=1.0))
    (room0, cameras0, lights0), (room1, cameras1, lights1) = source.scene(2), changed.scene(2)
    assert lights0 is room0.lights and lights1 is not room1.lights
    assert np.array_equal(cameras0.T_1_0, cameras1.T_1_0)
    first, second = source.pair(2), changed.pair(2)
    assert np.array_equal(first.image0, second.image0) and not np.array_equal(first.image1, second.image1)


def test_a_photometric_change_gets_each_view_and_moves_no_label(source: RoomPairs, pairs: list[TrainingPair]) -> None:
    def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.clip(image + rng.normal(0, 9, image.shape), 0, 255).astype(np.uint8)

    made = [RoomPairs(source.textures, source.config, noisy).pair(4) for _ in range(2)]
    assert np.array_equal(made[0].image0, made[1].image0)
    noise = [(ours.astype(int) - theirs).std() for ours, theirs in (
        (made[0].image0, pairs[4].image0), (made[0].image1, pairs[4].image1),
    )]  # fmt: skip
    assert min(noise) > 4
    points = some_points(made[0].image0, 100)
    assert np.array_equal(made[0].transfer.forth(points).points, pairs[4].transfer.forth(points).points)


def test_settings_are_read_from_words_and_nonsense_is_refused(source: RoomPairs) -> None:
    config = load_config(RoomPairsConfig, overrides=["room.side_m=[4,5]", "cameras.sizes=[[640,480]]", "seed=3"])
    assert (config.room.side_m, config.cameras.sizes, config.seed) == ([4.0, 5.0], [[640, 480]], 3)
    RoomPairs(source.textures, config).scene(0)
    for make in (
        lambda: RoomConfig(streets=0.9, desks=0.9), lambda: RoomConfig(side_m=[5.0, 3.0]), lambda: RoomConfig(blank=-1),
        lambda: CameraConfig(sizes=[]), lambda: CameraConfig(overlap=[0.5, 1.5]), lambda: CameraConfig(focal=[1.0]),
        lambda: CameraConfig(step=0, wide=0, zoom=0, turn=0, drive=0), lambda: RoomPairsConfig(seed=-1),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"rooms|cameras|room pairs"):
            make()
    hopeless = RoomPairsConfig(rooms=2, cameras=CameraConfig(overlap=[0.9999, 1.0], attempts=2, step=0, zoom=0, turn=0))
    with pytest.raises(ConfigError, match="widen"):
        RoomPairs(source.textures, hopeless).pair(0)
