"""`slamfeat export onnx backbone|frontend|matcher`: graphs for C++, TensorRT and OpenVINO."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json, Overrides, Recipe, Verb, Verbs, Weights, pipeline_config, say
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    from torch import Tensor

    from slamfeat.frontend import Frontend
    from slamfeat.vo.pipeline import PipelineConfig

EXAMPLES = "Example: [bold]slamfeat export onnx frontend --size 640x480 --keypoints 1024 --out frontend.onnx[/bold]"
COLUMNS = {
    "graph": "graph", "weights": "weights", "licence": "licence of the weights", "size": "image size",
    "keypoints": "keypoints", "opset": "ONNX opset", "megabytes": "MB", "checked_with": "checked with",
    "tokens_max_abs": "tokens, largest difference", "tokens_min_cosine": "tokens, least cosine",
    "keypoints_equal": "keypoints equal to 0.01 px", "keypoints_within_1px": "keypoints equal to 1 px",
    "descriptors_min_cosine": "descriptors, least cosine",
    "matches_equal": "matches equal", "scores_max_abs": "scores, largest difference", "out": "out",
}  # fmt: skip
_CHECK_FRAMES = (0, 4)

app = typer.Typer(cls=Verbs, no_args_is_help=True, help="Write the frontend for other runtimes.")


class Part(StrEnum):
    """What can be exported."""

    BACKBONE = "backbone"
    FRONTEND = "frontend"
    MATCHER = "matcher"


@app.command("onnx", cls=Verb, epilog=EXAMPLES)
def onnx_command(
    part: Annotated[Part, typer.Argument(metavar="backbone|frontend|matcher", help="Which part; see docs/export.md.")],
    overrides: Overrides = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the images, fixed in the graph.")] = "640x480",
    keypoints: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Slots of an image; the setting's when left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; PART.onnx when left out.", show_default=False)
    ] = None,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Write one ONNX file, checked in ONNX Runtime against torch on two shipped photographs before it is kept."""
    wanted = parse_size(size)
    config = pipeline_config(recipe, overrides, weights)
    target = out or Path(f"{part}.onnx")
    row = _export(part, _frontend(config), _photographs(wanted), keypoints or config.frontend.num_keypoints, target)
    if row["checked_with"] is None:
        say('not checked: ONNX Runtime is not installed; pip install "slamfeat[onnx]"', "yellow")
    shown = {key: heading for key, heading in COLUMNS.items() if key in row}
    show([row], shown, as_json)


def parse_size(text: str) -> tuple[int, int]:
    """(W, H) of a word such as 640x480.

    Raises:
        ConfigError: another form, or below 32 pixels.
    """
    from slamfeat.errors import ConfigError
    from slamfeat.image import MIN_SIDE

    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.lower())
    if not found or min(int(found[1]), int(found[2])) < MIN_SIDE:
        raise ConfigError(f"--size {text} is not WIDTHxHEIGHT of at least {MIN_SIDE} pixels, such as 640x480")
    return int(found[1]), int(found[2])


def _export(part: Part, frontend: Frontend, images: Tensor, keypoints: int, out: Path) -> dict[str, Any]:
    from slamfeat.backbones.registry import BACKBONES
    from slamfeat.engines.libraries import version
    from slamfeat.export import onnx

    row: dict[str, Any] = {"graph": str(part), "size": "x".join(map(str, images.shape[:1:-1]))}
    if part is Part.MATCHER:
        features = frontend.extract(images, keypoints), frontend.extract(images.flip(0), keypoints)
        figures = onnx.export_matcher(frontend, *features, out)
    else:
        known = BACKBONES.get(frontend.backbone.name)
        row |= {"weights": frontend.name, "licence": known.licence if known else None}
        figures = (
            onnx.export_backbone(frontend, images, out)
            if part is Part.BACKBONE
            else onnx.export_frontend(frontend, images, keypoints, out)
        )
    if part is not Part.BACKBONE:
        row["keypoints"] = keypoints
    runtime = f"ONNX Runtime {version('onnxruntime')}" if figures is not None else None
    row |= {"opset": onnx.OPSET, "megabytes": out.stat().st_size / 1e6, "checked_with": runtime}
    return {**row, **(figures or {}), "out": str(out)}


def _frontend(config: PipelineConfig) -> Frontend:
    """Always torch in float32 on the CPU: whoever reads the graph chooses its own precision."""
    from slamfeat.frontend import Frontend

    return Frontend.from_pretrained(config.weights, config=config.frontend, engine="torch", precision="fp32")


def _photographs(size: tuple[int, int]) -> Tensor:
    """(2, 3, H, W) of the shipped sequence."""
    import torch

    from slamfeat.image import resize, to_batch
    from slamfeat.sample import sample_path

    files = sorted((sample_path() / "rgb").iterdir())
    return torch.cat([resize(to_batch(files[i]), size)[0].clamp(0, 1) for i in _CHECK_FRAMES])
