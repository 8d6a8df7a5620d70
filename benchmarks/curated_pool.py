"""A pool with planted duplicates and imbalance, and choices of it to train on: a curated one and random ones.

    python -m benchmarks.curated_pool ../shared/data/unlabelled/imagenet_sample1000_256 --out runs/curated_pool
    python -m benchmarks.curated_or_random cpu_vitt14 --pool runs/curated_pool --steps 600 --out OUT

As in DINOv2's ablation (arXiv 2304.07193, Table 2) at our size. The pool has all images of one group of classes
(--favoured), one in --thin of the others, and of one in --every of all these nine copies (pixel for pixel, resized,
JPEG, cut out, brighter, darker). Half of it is chosen by `slamfeat curate` with its default settings, as many images as
that at random, --draws times: the curated half is fewer images than there are photographs, so that its balancing has a
say as well.
Images that probes are asked for (--held-out, by a hash of their names) are in all lists as they are: a pretraining
with the same share holds them out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.curate_duplicates import copies
from slamfeat.config import load_config
from slamfeat.curate import CurateConfig, CurateInputs, LocalEngine, curate, read_manifest
from slamfeat.errors import ConfigError, SlamfeatError
from slamfeat.files import write_text
from slamfeat.image import read_image
from slamfeat.image_files import image_files
from slamfeat.pretrain.probes.groups import open_groups
from slamfeat.train.textures import is_held_out, photo_name


def plant(source: Path, folder: Path, given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Fill `folder` with the pool; returns the names of the pool's images and the files that are held out."""
    folder.mkdir(parents=True)
    photographs, held = split(source, given)
    pool = list[str]()
    for number, file in enumerate(photographs):
        shutil.copyfile(file, folder / file.name)
        pool.append(file.name)
        if number % given.every:
            continue
        twins = [("exact", read_image(file)), *copies(read_image(file), np.random.default_rng(number))]
        for at, (_, image) in enumerate(twins):
            # Named as a tile (of scale 0, which no real one has) of its photograph, so that it is held out or not with
            # it; PNG, so that only what is meant changes the pixels.
            name = f"{photo_name(file)}_s0_{number}_{at}.png"
            cv2.imwrite(str(folder / name), np.ascontiguousarray(image[..., ::-1]))
            pool.append(name)
    return pool, held


def split(source: Path, given: argparse.Namespace) -> tuple[list[Path], list[str]]:
    """Files of the photographs that go into the pool, the favoured group's and some of the others; those held out."""
    pool, held, others = list[Path](), list[str](), 0
    is_favoured = favours(given)
    for file in image_files(source).values():
        if is_held_out(photo_name(file), given.held_out):
            held.append(str(file.resolve()))
            continue
        if not is_favoured(file.name):
            others += 1
            if others % given.thin:
                continue
        pool.append(file)
    return pool, held


def favours(given: argparse.Namespace) -> Callable[[str], bool]:
    """Whether an image's name is of the favoured group.

    Raises:
        ConfigError: there is no such group.
    """
    groups = open_groups(given.groups)
    if given.favoured not in groups.names:
        raise ConfigError(
            f"--favoured: {given.groups} has no group '{given.favoured}'; it has {', '.join(groups.names)}"
        )
    favoured = groups.names.index(given.favoured)
    return lambda name: groups.of(name) == favoured


def choices(given: argparse.Namespace, pool: Sequence[str]) -> dict[str, list[str]]:
    """Names of the curated half of the pool, and of as many images at random, by the name of the list.

    Raises:
        ConfigError: half of the pool is more than its photographs, which a curation would have to make up with copies.
    """
    target, photographs = len(pool) // 2, count(pool, favours(given))["photographs"]
    if target > photographs:
        raise ConfigError(f"half of {len(pool)} images is more than {photographs} photographs; raise --every")
    config = load_config(CurateConfig, None, [f"sample.target={target}", *given.settings])
    inputs = CurateInputs(given.out / "images")
    curate(inputs, given.out / "curation", config, LocalEngine(config.workers), say=print)
    entries = read_manifest(given.out / "curation" / "manifest.jsonl")
    kept = [entry["name"] for entry in entries if entry["status"] == "kept"]
    found = {"curated": kept}
    for draw in range(given.draws):
        chosen = np.random.default_rng(draw).choice(len(pool), len(kept), replace=False)
        found[f"random-{draw}"] = [pool[int(number)] for number in sorted(chosen)]
    return found


def count(names: Sequence[str], is_favoured: Callable[[str], bool]) -> dict[str, int]:
    """How many images, how many of them of the favoured group, and how many different photographs."""
    photographs = {photo_name(Path(name)) for name in names}
    return {"images": len(names), "favoured": sum(map(is_favoured, names)), "photographs": len(photographs)}


def run(given: argparse.Namespace) -> None:
    """Make the pool and the lists.

    Raises:
        ConfigError, InputError: the images or settings are of no use.
    """
    planted = given.out / "pool.json"
    asked = {key: str(getattr(given, key)) for key in ("data", "groups", "favoured", "thin", "every", "held_out")}
    if not planted.is_file() or json.loads(planted.read_text())["of"] != asked:
        for folder in ("images", "curation"):
            shutil.rmtree(given.out / folder, ignore_errors=True)
        pool, held = plant(given.data, given.out / "images", given)
        write_text(planted, json.dumps({"of": asked, "pool": pool, "held": held}))
    kept = json.loads(planted.read_text())
    pool, held = kept["pool"], kept["held"]
    lists, is_favoured = choices(given, pool), favours(given)
    for name, chosen in lists.items():
        lines = [*(str((given.out / "images" / one).resolve()) for one in chosen), *held]
        write_text(given.out / f"{name}.txt", "\n".join(lines) + "\n")
    counted = {"pool": pool, **lists}
    made = {**{name: count(chosen, is_favoured) for name, chosen in counted.items()}, "held out": len(held)}
    write_text(given.out / "choices.json", json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of images, no two of them alike")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of slamfeat curate")
    parser.add_argument("--groups", default="imagenet_groups", help="see slamfeat.pretrain.probes.groups")
    parser.add_argument("--favoured", default="canine", help="group whose images are all in the pool")
    parser.add_argument("--thin", type=int, default=3, help="of the others, one in so many is")
    parser.add_argument("--every", type=int, default=12, help="of the pool's photographs, one in so many is copied")
    parser.add_argument("--held-out", type=float, default=0.3)
    parser.add_argument("--draws", type=int, default=2, help="random halves")
    parser.add_argument("--out", type=Path, required=True, help="folder of pool and lists")
    try:
        run(parser.parse_intermixed_args(arguments))
    except SlamfeatError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
