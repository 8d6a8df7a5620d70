"""The nouns of slamfeat, and THE pixel and pose convention. Everything else refers to this page.

Pixels. The centre of the top-left pixel is (0, 0). Points are (x, y), x right and y down. Image size is (W, H).
    A picture W wide covers x from -0.5 to W - 0.5, so rescaling by s maps x to (x + 0.5) * s - 0.5. The centre of
    patch cell (row r, column c) of patch size p is (p*c + (p-1)/2, p*r + (p-1)/2). COLMAP puts the corner of the
    top-left pixel at (0, 0): its +0.5 is added where COLMAP files are written, and nowhere else.
Poses. `T_world_camera`, 4x4, maps camera coordinates to world coordinates. The camera looks along +z, x right, y down.
Units. Metres, seconds, degrees (in reports), pixels. Depth is metres along z; 0 means unknown.
Batches. Features and matches always have a batch dimension and a fixed number K of slots with a validity mask.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slamfeat.errors import InputError

if TYPE_CHECKING:
    import cv2

Array = NDArray[np.float64]
SampleMode = Literal["bilinear", "floor"]


@dataclass(frozen=True)
class PixelMap:
    """An axis-aligned map between two pixel frames: `q = (p + 0.5) * scale - 0.5 + shift`, per axis.

    It describes resizing (scale), cropping (negative shift) and padding (positive shift) exactly.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def apply(self, points: Tensor) -> Tensor:
        """Map points (..., 2) from the source frame to the target frame."""
        scale, shift = points.new_tensor(self.scale), points.new_tensor(self.shift)
        return (points + 0.5) * scale - 0.5 + shift

    def inverse(self) -> PixelMap:
        """The map from the target frame back to the source frame."""
        (sx, sy), (tx, ty) = self.scale, self.shift
        return PixelMap((1 / sx, 1 / sy), (-tx / sx, -ty / sy))

    def then(self, other: PixelMap) -> PixelMap:
        """The map that applies `self` first and `other` second."""
        (sx, sy), (tx, ty) = self.scale, self.shift
        (ox, oy), (ux, uy) = other.scale, other.shift
        return PixelMap((sx * ox, sy * oy), (tx * ox + ux, ty * oy + uy))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with optional radial-tangential distortion.

    Attributes:
        width, height: image size in pixels.
        fx, fy, cx, cy: intrinsics in pixels, in the pixel convention of this module.
        dist: distortion in OpenCV's order k1 k2 p1 p2 [k3 [k4 k5 k6]]; empty for none.

    Raises:
        InputError: a size that is not positive, a focal length that is not positive, or a value that is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    dist: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise InputError(f"calibration: image size {self.width}x{self.height} is not positive")
        if not np.isfinite([self.fx, self.fy, self.cx, self.cy, *self.dist]).all():
            raise InputError(
                "calibration: fx fy cx cy and distortion must be finite numbers; mend the calibration file"
            )
        if self.fx <= 0 or self.fy <= 0:
            raise InputError(f"calibration: focal lengths must be positive, got fx={self.fx} fy={self.fy}")
        if len(self.dist) not in (0, 4, 5, 8):
            raise InputError(
                f"calibration: distortion needs 0, 4, 5 or 8 values (k1 k2 p1 p2 k3 ...), got {len(self.dist)}"
            )

    @property
    def K(self) -> Array:
        """Intrinsic matrix (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def mapped(self, pixel_map: PixelMap, size: tuple[int, int]) -> Camera:
        """The camera that belongs to an image moved by `pixel_map` and now of `size` (W, H); `dist` stays."""
        (sx, sy), (tx, ty) = pixel_map.scale, pixel_map.shift
        return replace(
            self, width=size[0], height=size[1], fx=self.fx * sx, fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5 + tx, cy=(self.cy + 0.5) * sy - 0.5 + ty,
        )  # fmt: skip

    def normalize(self, points: ArrayLike) -> Array:
        """Pixels (N, 2) to undistorted coordinates on the plane z = 1, (N, 2)."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if not self.dist:
            return (points - (self.cx, self.cy)) / (self.fx, self.fy)
        import cv2

        if not len(points):
            return points
        # OpenCV stops after five steps, which leaves 1e-3 px at the corners of TUM's freiburg1 lens (and 4.x does not
        # let Python ask for more), so a fixed-point iteration on the forward model goes on from there.
        focal = np.array([self.fx, self.fy])
        plane: Array = np.asarray(cv2.undistortPoints(points[:, None], self.K, np.array(self.dist)), dtype=np.float64)[
            :, 0
        ]
        for _ in range(100):
            error = points - self.project(np.column_stack([plane, np.ones(len(plane))]))
            plane = plane + error / focal
            if not (np.abs(error[np.isfinite(error)]) > 1e-9).any():
                break
        return plane

    def project(self, points: ArrayLike) -> Array:
        """Points in camera coordinates (N, 3), z > 0, to distorted pixels (N, 2)."""
        import cv2

        xyz = np.asarray(points, dtype=np.float64).reshape(-1, 1, 3)
        pixels, _ = cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), self.K, np.array(self.dist))
        return np.asarray(pixels, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Frame:
    """One moment of a sequence.

    Attributes:
        index: position in the sequence.
        timestamp: seconds.
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres registered to `image`, 0 where unknown; None without a depth sensor.
        right: (H, W, 3) uint8 RGB of the right camera; None without one.
        path: the file `image` was read from, where there is one.
    """

    index: int
    timestamp: float
    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    right: NDArray[np.uint8] | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Trajectory:
    """Poses over time.

    Attributes:
        timestamps: (N,) seconds, strictly increasing.
        poses: (N, 4, 4) `T_world_camera`.
    """

    timestamps: Array
    poses: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "timestamps", np.asarray(self.timestamps, dtype=np.float64).reshape(-1))
        object.__setattr__(self, "poses", np.asarray(self.poses, dtype=np.float64).reshape(-1, 4, 4))
        if len(self.timestamps) != len(self.poses):
            raise InputError(f"trajectory: {len(self.timestamps)} timestamps but {len(self.poses)} poses")
        if not (np.isfinite(self.timestamps).all() and np.isfinite(self.poses).all()):
            raise InputError("trajectory: a timestamp or pose is not finite; remove those lines")
        if (np.diff(self.timestamps) <= 0).any():
            raise InputError("trajectory: timestamps must increase; sort the file and remove repeated lines")

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def positions(self) -> Array:
        """Camera centres in world coordinates, (N, 3) metres."""
        return self.poses[:, :3, 3]

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write the trajectory; `format` is "tum", "kitti" or "euroc", guessed from the suffix when None."""
        from slamfeat.trajectory_io import save_trajectory

        return save_trajectory(self, path, format)

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> Trajectory:
        """Read a trajectory; `format` as in `save`, else guessed from the file."""
        from slamfeat.trajectory_io import load_trajectory

        return load_trajectory(path, format)


@dataclass(frozen=True)
class PatchGrid:
    """Tokens of a vision transformer on their grid, with the map from the image they describe.

    Attributes:
        tokens: (B, C, h, w).
        patch_size: pixels of the backbone's input a cell covers.
        pixel_map: from pixels of the original image to pixels of the backbone's input.
    """

    tokens: Tensor
    patch_size: int
    pixel_map: PixelMap = field(default_factory=PixelMap)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return int(self.tokens.shape[-2]), int(self.tokens.shape[-1])

    def cell_centers(self) -> Tensor:
        """Centres of all cells in original-image pixels, row by row, (h*w, 2)."""
        rows, columns = self.shape
        p, device = self.patch_size, self.tokens.device
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        centers = torch.stack([x, y], -1).reshape(-1, 2).float() * p + (p - 1) / 2
        return self.pixel_map.inverse().apply(centers)

    def to_cells(self, points: Tensor) -> Tensor:
        """Original-image pixels (..., 2) to grid coordinates (column, row); a cell's centre is an integer."""
        return (self.pixel_map.apply(points) + 0.5) / self.patch_size - 0.5

    def sample(self, points: Tensor, mode: SampleMode = "bilinear") -> Tensor:
        """Tokens at original-image pixels.

        Args:
            points: (B, N, 2).
            mode: "bilinear" between the four nearest cell centres, or "floor": the cell a point lies in
                (DINO-VO's lookup). Points beyond the outermost centres take the border's value.

        Returns:
            (B, N, C), in the dtype of the tokens.
        """
        rows, columns = self.shape
        cells = self.to_cells(points)
        if mode == "floor":
            column = (cells[..., 0] + 0.5).floor().clamp(0, columns - 1)
            row = (cells[..., 1] + 0.5).floor().clamp(0, rows - 1)
            index = (row * columns + column).long()
            flat = self.tokens.flatten(2).transpose(1, 2)
            return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))
        limits = cells.new_tensor([max(columns - 1, 1), max(rows - 1, 1)])
        grid = (cells / limits * 2 - 1)[:, :, None].to(self.tokens.dtype)
        sampled = torch.nn.functional.grid_sample(
            self.tokens, grid, mode="bilinear", padding_mode="border", align_corners=True
        )
        return sampled[..., 0].transpose(1, 2)


@dataclass(frozen=True)
class Features:
    """Keypoints with descriptors for a batch of images, always K slots an image.

    Attributes:
        keypoints: (B, K, 2) pixels of the original image.
        scores: (B, K) detection scores, 0 in empty slots, highest first.
        descriptors: (B, K, D), unit length, 0 in empty slots.
        mask: (B, K) bool, True where a slot holds a keypoint.
        image_size: (B, 2) integers (W, H).
        grid: the tokens the descriptors came from, where a matcher may need them.
        gray: (B, 1, H, W) uint8 original image, for refiners that look at pixels.
    """

    keypoints: Tensor
    scores: Tensor
    descriptors: Tensor
    mask: Tensor
    image_size: Tensor
    grid: PatchGrid | None = None
    gray: Tensor | None = None

    def __len__(self) -> int:
        """Batch size B."""
        return int(self.keypoints.shape[0])

    def as_dict(self) -> dict[str, Tensor]:
        """The keys of LightGlue and hloc: keypoints, keypoint_scores, descriptors (B, K, D), image_size, mask."""
        return {
            "keypoints": self.keypoints,
            "keypoint_scores": self.scores,
            "descriptors": self.descriptors,
            "image_size": self.image_size.to(self.keypoints.dtype),
            "mask": self.mask,
        }

    def to_cv2(self, batch: int = 0) -> tuple[list[cv2.KeyPoint], NDArray[np.float32]]:
        """The valid keypoints of one image as OpenCV's (list of KeyPoint, descriptors (N, D) float32)."""
        from slamfeat.compat.opencv import features_to_cv2

        return features_to_cv2(self, batch)

    def to_lafs(self) -> Tensor:
        """Kornia's local affine frames, (B, K, 2, 3): upright, with the patch size as scale."""
        from slamfeat.compat.kornia import features_to_lafs

        return features_to_lafs(self)


@dataclass(frozen=True)
class Matches:
    """Correspondences of a batch of image pairs; slot k belongs to keypoint k of the first image.

    Attributes:
        points0: (B, K, 2) pixels in the first image: its keypoints.
        points1: (B, K, 2) pixels in the second image, refined where the matcher refines.
        scores: (B, K) confidence in [0, 1], 0 where unmatched.
        indices: (B, K) index of the matched keypoint of the second image; -1 where unmatched or where the match
            lies at no detected keypoint.
        mask: (B, K) bool, True where there is a match.
        num_keypoints1: slots in the second image's features.
        covariances: (B, K, 2, 2) of `points1` as far as the refiner knows, pixels squared of the second image at full
            resolution, 0 where unmatched; None from refiners that do not say.
    """

    points0: Tensor
    points1: Tensor
    scores: Tensor
    indices: Tensor
    mask: Tensor
    num_keypoints1: int
    covariances: Tensor | None = None

    def __len__(self) -> int:
        """Number of matches over the whole batch."""
        return int(self.mask.sum())

    def numpy(self, batch: int = 0) -> tuple[Array, Array, Array]:
        """The matches of one pair without empty slots: points0 (M, 2), points1 (M, 2), scores (M,), float64."""
        keep = self.mask[batch]
        chosen = (self.points0[batch][keep], self.points1[batch][keep], self.scores[batch][keep])
        p0, p1, scores = (value.detach().cpu().numpy().astype(np.float64) for value in chosen)
        return p0, p1, scores

    def numpy_covariances(self, batch: int = 0) -> Array | None:
        """The covariances (M, 2, 2) of the matches that `numpy` returns, float64; None where there are none."""
        if self.covariances is None:
            return None
        return self.covariances[batch][self.mask[batch]].detach().cpu().numpy().astype(np.float64)

    def as_dict(self) -> dict[str, Any]:
        """LightGlue's keys: matches0/1 (B, K) with -1, matching_scores0/1, and lists matches (M, 2), scores (M,)."""
        from slamfeat.compat.lightglue import matches_to_dict

        return matches_to_dict(self)
