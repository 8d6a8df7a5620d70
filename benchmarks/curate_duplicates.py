"""Planted duplicates among real photographs: how many are found, and what else is dropped.

    python -m benchmarks.curate_duplicates ../shared/data/unlabelled/imagenet_sample1000_256 \\
        --out benchmarks/results/curate_duplicates

Every image of the folder is in the pool, and of every second one nine copies: byte for byte, at half and at 0.7 of the
size, JPEG of quality 30 and 60, 90 % of both sides cut out at the centre and at a place drawn at random, and brightness
times 0.6 and 1.4 (clipped). `slamfeat curate` runs on all of it with default settings. A copy is found when it and its
original are in one group of duplicates, whichever of them is kept. Recall is the share of copies found; precision the
share of the images dropped that show what the image they were dropped for shows; lost are photographs of which no
image is left. Originals of the half, by a fixed
hash, on some of which thresholds were chosen are counted apart from the others. A last table shows how far copies and
other photographs lie apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from slamfeat.bench.provenance import header, header_line
from slamfeat.config import load_config
from slamfeat.curate import CurateConfig, CurateInputs, LocalEngine, curate, read_manifest
from slamfeat.curate.rows import exact_cosines
from slamfeat.curate.store import EmbeddingStore
from slamfeat.curate.thumbnails import correlations
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.image import read_image
from slamfeat.image_files import image_files

Image = NDArray[np.uint8]


def is_chosen_on(name: str) -> bool:
    """Whether an original is in the half that thresholds were chosen on."""
    return hashlib.md5(name.encode()).digest()[0] % 2 == 0


def copies(image: Image, rng: np.random.Generator) -> Iterator[tuple[str, Image]]:
    """Near duplicates of an image, by kind."""
    height, width = image.shape[:2]
    for scale in (0.5, 0.7):
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        yield f"resized to {scale}", np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    for quality in (30, 60):
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        yield f"JPEG {quality}", np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)
    rows, columns = round(0.9 * height), round(0.9 * width)
    places = {"centre": (0.5, 0.5), "anywhere": tuple(rng.random(2))}
    for name, (down, right) in places.items():
        top, left = round(down * (height - rows)), round(right * (width - columns))
        yield f"90 % cut out, {name}", image[top : top + rows, left : left + columns]
    for factor in (0.6, 1.4):
        yield f"brightness x {factor}", np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def plant(source: Path, folder: Path, every: int) -> dict[str, tuple[str, str]]:
    """Fill a folder with the images of another and copies of every so manieth; returns original and kind by name."""
    planted: dict[str, tuple[str, str]] = {}
    folder.mkdir(parents=True)
    for number, (name, file) in enumerate(image_files(source).items()):
        shutil.copyfile(file, folder / file.name)
        if number % every:
            continue
        shutil.copyfile(file, folder / f"{file.stem}~exact{file.suffix}")
        planted[f"{file.stem}~exact{file.suffix}"] = (file.name, "exact")
        for at, (kind, image) in enumerate(copies(read_image(file), np.random.default_rng(number))):
            # PNG, so that only what is meant changes the pixels
            cv2.imwrite(str(folder / f"{file.stem}~{at}.png"), np.ascontiguousarray(image[..., ::-1]))
            planted[f"{file.stem}~{at}.png"] = (file.name, kind)
        assert name == file.name, "the folder has folders"
    return planted


def score(entries: dict[str, dict[str, Any]], planted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Recall by kind, precision, and what went wrong, by name."""

    def group(name: str) -> str:
        entry = entries[name]
        return str(entry["by"]) if entry["stage"] == "dedup" and entry["status"] == "dropped" else name

    def original(name: str) -> str:
        return planted[name][0] if name in planted else name

    kinds: dict[str, list[bool]] = {}
    halves: dict[bool, list[bool]] = {True: [], False: []}
    missed = []
    for name, (of, kind) in planted.items():
        found = group(name) == group(of)
        kinds.setdefault(kind, []).append(found)
        halves[is_chosen_on(of)].append(found)
        if not found:
            missed.append(f"{name} ({kind})")
    dropped = [name for name in entries if group(name) != name]
    wrong = [name for name in dropped if original(name) != original(group(name))]
    shown = {original(group(name)) for name in entries}  # by whatever image of it is kept
    lost = [name for name in entries if name not in planted and name not in shown]
    right: dict[bool, list[bool]] = {True: [], False: []}
    for name in dropped:
        right[is_chosen_on(original(name))].append(name not in wrong)
    rows = [{"copies": kind, "planted": len(found), "recall": float(np.mean(found))} for kind, found in kinds.items()]
    return {
        "rows": rows, "originals": len(entries) - len(planted), "planted": len(planted), "dropped": len(dropped),
        "recall": 1 - len(missed) / max(1, len(planted)), "precision": 1 - len(wrong) / max(1, len(dropped)),
        "held_out": _share(halves[False], right[False]), "chosen_on": _share(halves[True], right[True]),
        "missed": missed, "lost": lost, "wrong": [f"{name}, dropped for {group(name)}" for name in wrong],
    }  # fmt: skip


def margins(store: EmbeddingStore, planted: dict[str, tuple[str, str]], threshold: float) -> list[dict[str, Any]]:
    """How far copies and other photographs lie apart, in cosines of embeddings and correlations of thumbnails.

    Correlations of other photographs are of pairs above the threshold alone, since only those are looked at.
    """
    names = store.names()
    row_of = {names[row]: row for row in range(store.rows)}
    copied = np.array(
        [(row_of[name], row_of[of]) for name, (of, _) in planted.items() if name in row_of and of in row_of]
    )
    originals = np.array([row for name, row in row_of.items() if name not in planted])
    vectors = store.vectors.gather(originals)
    cosines = vectors @ vectors.T
    a, b = np.nonzero(np.triu(cosines >= threshold, 1))
    near = np.stack([originals[a], originals[b]], 1)
    copy_cosines = exact_cosines(store.vectors.gather(copied[:, 0]), store.vectors.gather(copied[:, 1]))
    found = {
        "cosine": (copy_cosines, cosines[np.triu_indices(len(originals), 1)]),
        "correlation": tuple(
            correlations(store.thumbs(pairs[:, 0]), store.thumbs(pairs[:, 1]), 0.0) if len(pairs) else np.zeros(1)
            for pairs in (copied, near)
        ),
    }
    return [
        {
            "measure": measure, "copies, least": float(alike.min()), "copies, 1 %": float(np.quantile(alike, 0.01)),
            "others, 99.9 %": float(np.quantile(other, 0.999)), "others, most": float(other.max()),
            "pairs of others": len(other),
        }
        for measure, (alike, other) in found.items()
    ]  # fmt: skip


def _share(found: list[bool], right: list[bool]) -> dict[str, float | int | None]:
    return {
        "planted": len(found), "recall": float(np.mean(found)) if found else None,
        "dropped": len(right), "precision": float(np.mean(right)) if right else None,
    }  # fmt: skip


def report(result: dict[str, Any], facts: dict[str, Any]) -> str:
    """Markdown."""
    rows = [*result["rows"], {"copies": "all", "planted": result["planted"], "recall": result["recall"]}]
    table = markdown_table(rows, columns=["copies", "planted", "recall"])
    halves = markdown_table(
        [
            {"originals": label, **result[key], "of them rightly": result[key]["precision"]}
            for label, key in (("thresholds chosen on them", "chosen_on"), ("held out", "held_out"))
        ],
        columns=["originals", "planted", "recall", "dropped", "of them rightly"],
    )
    apart = markdown_table(result.get("margins", []), columns=list(result.get("margins", [{}])[0]))
    lists = "".join(
        f"\n{title}: {'none' if not result[key] else ''}\n" + "".join(f"- {line}\n" for line in result[key][:40])
        for title, key in (("Missed", "missed"), ("Dropped wrongly", "wrong"))
    )
    return (
        f"{header_line(facts)}\n\n{result['originals']} photographs, {result['planted']} copies, {result['dropped']}"
        f" dropped. Recall {result['recall']:.4f}, precision {result['precision']:.4f};"
        f" photographs lost: {len(result['lost'])}.\n\n"
        f"{table}\n{halves}\n{apart}{lists}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of images, no two of them alike")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of slamfeat curate")
    parser.add_argument("--every", type=int, default=2, help="copies of every so manieth image")
    parser.add_argument("--work", type=Path, help="folder to keep; an interrupted run goes on there")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_intermixed_args()
    config = load_config(CurateConfig, None, given.settings)
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        if not (work / "planted.json").is_file():
            shutil.rmtree(work / "images", ignore_errors=True)
            write_text(work / "planted.json", json.dumps(plant(given.data, work / "images", given.every)))
        planted = {name: (of, kind) for name, (of, kind) in json.loads((work / "planted.json").read_text()).items()}
        begun = (work / "curated").exists()
        summary = curate(
            CurateInputs(work / "images"), work / "curated", config, LocalEngine(config.workers), say=print
        )
        result = score({entry["name"]: entry for entry in read_manifest(work / "curated" / "manifest.jsonl")}, planted)
        store = EmbeddingStore(work / "curated" / "embed" / "pool")
        result["margins"] = margins(store, planted, config.dedup.threshold)
    facts = header("python -m benchmarks.curate_duplicates " + " ".join(sys.argv[1:]), f"{summary['workers']} workers")
    facts |= {"data": given.data.name, "weights": config.embed.weights}
    if not begun:  # else part of it was embedded before
        facts["embed_seconds"] = round(summary["seconds"]["embed"])
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, **result}, indent=1) + "\n")
    text = report(result, facts)
    write_text(given.out.with_suffix(".md"), text)
    Console().print(text, soft_wrap=True, markup=False)
    if min(result["recall"], result["precision"]) < 0.98:
        raise SystemExit("recall or precision below 0.98")


if __name__ == "__main__":
    main()
