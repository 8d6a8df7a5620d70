"""Pairs of views of made-up rooms: the one source of exact depth, pose and occlusion that never ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slamfeat.errors import ConfigError
from slamfeat.train.pairs import PairSource, Pixels, TrainingPair
from slamfeat.train.room_cameras import CameraPair, make_cameras
from slamfeat.train.room_config import RoomPairsConfig
from slamfeat.train.room_render import render_view
from slamfeat.train.room_transfer import RoomTransfer
from slamfeat.train.rooms import Lights, Room, make_lights, make_room
from slamfeat.train.textures import Textures

Photometric = Callable[[Pixels, np.random.Generator], Pixels]


class RoomPairs(PairSource):
    """Rooms by number; equal for equal seed, settings and photographs.

    Names are room/KIND/MOTION/INDEX, for example room/street/drive/17.
    """

    def __init__(
        self, textures: Textures, config: RoomPairsConfig | None = None, photometric: Photometric | None = None
    ) -> None:
        """Nothing is made yet.

        Args:
            textures: photographs for the surfaces.
            config: see `RoomPairsConfig`.
            photometric: changes each view (blur, noise, exposure), not where things are; (H, W, 3) uint8 RGB and a
                generator of its own to the same.
        """
        self.textures, self.config, self.photometric = textures, config or RoomPairsConfig(), photometric

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index` (>= 0).

        Raises:
            ConfigError: no room had cameras that keep the configured limits.
            ImageError: twenty photographs in a row cannot be read.
        """
        room, cameras, lights = self.scene(index)
        images = [
            self._seen(render_view(room, view, shown).image, index, number)
            for number, (view, shown) in enumerate(((cameras.view0, room.lights), (cameras.view1, lights)))
        ]
        transfer = RoomTransfer(cameras.view0, cameras.view1)
        name = f"room/{room.layout.kind}/{cameras.motion}/{index}"
        return TrainingPair(
            images[0], images[1], transfer, cameras.view0.K, cameras.view1.K, cameras.T_1_0, name
        )  # fmt: skip

    def scene(self, index: int) -> tuple[Room, CameraPair, Lights]:
        """What pair number `index` is made of: its room, its cameras, and the lights of the second view.

        Raises:
            ConfigError: as `pair`.
        """
        rng = np.random.default_rng([self.config.seed, index])
        for _ in range(self.config.rooms):
            room = make_room(rng, self.textures, self.config.room)
            cameras = make_cameras(rng, room, self.config.cameras)
            if cameras is not None:
                changed = rng.random() < self.config.light_change
                return room, cameras, make_lights(rng, room.layout) if changed else room.lights
        raise ConfigError(
            f"room pairs: {self.config.rooms} rooms gave no cameras with overlap in {self.config.cameras.overlap} and "
            f"distinct share {self.config.cameras.distinct}; widen these or allow more rooms or attempts"
        )

    def _seen(self, image: Pixels, index: int, number: int) -> Pixels:
        if self.photometric is None:
            return image
        return self.photometric(image, np.random.default_rng([self.config.seed, index, 1 + number]))
