"""The prepare.py scripts, on small archives and a server of our own: no network."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from slamfeat.data import open_sequence

from .builders import CALIB, make_euroc, make_kitti, make_tartanair, make_tum, picture
from .conftest import REPOSITORY
from .test_euroc import BODY, LEFT, RIGHT

DATASETS = REPOSITORY / "datasets"
NAMES = ("tum", "euroc", "kitti", "tartanair", "7scenes", "hpatches", "scannet1500", "megadepth1500")


def load(name: str) -> ModuleType:
    """A prepare.py as a module. _fetch is loaded by the scripts themselves."""
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", DATASETS / name / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fetch() -> ModuleType:
    load("tum")
    return sys.modules["_fetch"]


def pack(folder: Path, archive: Path, prefix: str = "") -> Path:
    """Zip or tar the files of `folder` under `prefix`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as bundle:
            for path in files:
                bundle.write(path, prefix + path.relative_to(folder).as_posix())
    else:
        with tarfile.open(archive, "w:gz") as bundle_tar:
            for path in files:
                bundle_tar.add(path, prefix + path.relative_to(folder).as_posix())
    return archive


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with byte ranges, and hangs up half way where the name says so."""

    asked: list[str] = []  # noqa: RUF012 - reset by the fixture

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        self.asked.append(f"{self.path} {start}")
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = "flaky" in self.path and len(self.asked) == 1
        self.wfile.write(data[start : len(data) // 2 if cut else None])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "served"
    root.mkdir()
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_port}", root
        service.shutdown()


def test_download_goes_on_where_it_stopped(fetch: ModuleType, server: tuple[str, Path], tmp_path: Path) -> None:
    address, root = server
    data = np.random.default_rng(0).bytes(300_000)
    (root / "flaky.bin").write_bytes(data)
    target = tmp_path / "out" / "flaky.bin"
    with pytest.raises(fetch.FetchError, match="run the same command again"):
        fetch.download(f"{address}/flaky.bin", target)
    assert not target.exists() and target.with_name("flaky.bin.part").stat().st_size == 150_000
    fetch.download(f"{address}/flaky.bin", target)
    assert target.read_bytes() == data and Handler.asked == ["/flaky.bin 0", "/flaky.bin 150000"]
    assert not target.with_name("flaky.bin.part").exists()
    # A complete part from a run that was stopped before the last step.
    target.rename(target.with_name("flaky.bin.part"))
    fetch.download(f"{address}/flaky.bin", target)
    assert target.read_bytes() == data


def test_second_address_and_no_connection(fetch: ModuleType, server: tuple[str, Path], tmp_path: Path) -> None:
    address, root = server
    (root / "a.bin").write_bytes(b"abc")
    fetch.download_any(("http://127.0.0.1:1/a.bin", f"{address}/a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    with pytest.raises(fetch.FetchError, match=r"127\.0\.0\.1:1/b\.bin"):
        fetch.download_any(("http://127.0.0.1:1/b.bin",), tmp_path / "b.bin")


def test_checksums_are_verified_or_recorded(fetch: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    fetch.verify(path, "md5:900150983cd24fb0d6963f7d28e17f72")  # RFC 1321, A.5
    with pytest.raises(fetch.FetchError, match="delete the file"):
        fetch.verify(path, "sha256:" + "0" * 64)
    fetch.verify(path, None)
    record = (tmp_path / "CHECKSUMS.sha256").read_text()
    assert record == f"{hashlib.sha256(b'abc').hexdigest()}  a.bin\n"
    fetch.verify(path, None)
    path.write_bytes(b"abd")
    with pytest.raises(fetch.FetchError, match="delete the file"):
        fetch.verify(path, None)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:/evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_cannot_write_elsewhere(fetch: ModuleType, tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"bad.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as bundle:
            bundle.writestr(name, b"x")
    else:
        with tarfile.open(archive, "w") as bundle_tar:
            info = tarfile.TarInfo(name)
            info.size = 1
            bundle_tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(fetch.FetchError, match="unsafe path"):
        fetch.extract(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_links_are_left_out_and_damage_is_told(fetch: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as bundle:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bundle.addfile(link)
    assert fetch.extract(archive, tmp_path / "out") == 0
    archive.write_bytes(b"nonsense" * 100)
    with pytest.raises(fetch.FetchError, match="damaged or not an archive"):
        fetch.extract(archive, tmp_path / "out")


@pytest.mark.parametrize("name", NAMES)
def test_list_and_dry_run_do_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = load(name)
    main = sys.modules["_fetch"].main
    assert main(script.DATA, ["--list"]) == 0
    first = capsys.readouterr().out.splitlines()[0].split(":")[0]
    assert main(script.DATA, ["--dest", str(tmp_path / "d"), "--sequence", first, "--dry-run"]) == 0
    assert capsys.readouterr().out and not (tmp_path / "d").exists()
    assert (DATASETS / name / "README.md").is_file()


def run(name: str, *arguments: str) -> int:
    script = load(name)
    return int(sys.modules["_fetch"].main(script.DATA, list(arguments)))


def test_tum_archive(tmp_path: Path) -> None:
    make_tum(tmp_path / "raw")
    archive = pack(tmp_path / "raw", tmp_path / "rgbd_dataset_freiburg1_rpy.tgz", "rgbd_dataset_freiburg1_rpy/")
    assert run("tum", "--dest", str(tmp_path / "d"), "--sequence", "freiburg1_rpy", "--archive", str(archive)) == 0
    assert len(open_sequence(tmp_path / "d/rgbd_dataset_freiburg1_rpy")) == 5


def test_missing_archive_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "rgbd_dataset_freiburg1_rpy.tgz")
    assert run("tum", "--dest", str(tmp_path / "d"), "--sequence", "freiburg1_rpy", "--archive", absent) == 1
    assert capsys.readouterr().err == f"no such archive: {absent}; check the path\n"


def test_euroc_nested_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_euroc(tmp_path / "raw", (LEFT, RIGHT), BODY)
    inner = tmp_path / "room" / "V1_01_easy" / "V1_01_easy.zip"
    inner.parent.mkdir(parents=True)
    pack(tmp_path / "raw", inner)
    archive = pack(tmp_path / "room", tmp_path / "vicon_room1.zip", "vicon_room1/")
    script = load("euroc")
    script.unpack("V1_01_easy", [archive], tmp_path / "d")
    assert open_sequence(tmp_path / "d/V1_01_easy").modes == ("mono", "stereo")
    flat = pack(tmp_path / "raw", tmp_path / "flat.zip", "V1_01_easy/")
    script.unpack("V1_01_easy", [flat], tmp_path / "e")
    assert len(open_sequence(tmp_path / "e/V1_01_easy")) == 4


def test_kitti_archives_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = np.stack([np.eye(3, 4)] * 2)
    make_kitti(tmp_path / "raw", poses, official=True)
    (tmp_path / "raw/sequences/00/calib.txt").rename(tmp_path / "calib.txt")
    gray = pack(tmp_path / "raw", tmp_path / "data_odometry_gray.zip", "dataset/")
    with zipfile.ZipFile(tmp_path / "data_odometry_calib.zip", "w") as bundle:
        bundle.writestr("dataset/sequences/00/calib.txt", CALIB)
        bundle.writestr("dataset/sequences/01/calib.txt", CALIB)
    with zipfile.ZipFile(tmp_path / "data_odometry_poses.zip", "w") as bundle:
        bundle.write(tmp_path / "raw/poses/00.txt", "dataset/poses/00.txt")
    assert run("kitti", "--dest", str(tmp_path / "d"), "--sequence", "00", "--archive", str(gray)) == 1
    told = capsys.readouterr().err
    assert "eval_odometry.php" in told and "e-mail" in told and told.count("\n") == 1
    archives = [str(tmp_path / f"data_odometry_{part}.zip") for part in ("gray", "calib", "poses")]
    assert run("kitti", "--dest", str(tmp_path / "d"), "--sequence", "00", "--archive", *archives) == 0
    sequence = open_sequence(tmp_path / "d/sequences/00")
    assert sequence.modes == ("mono", "stereo") and sequence.groundtruth is not None
    assert not (tmp_path / "d/sequences/01").exists()


def test_tartanair_archives(tmp_path: Path) -> None:
    poses = np.array([[0, 0, 0, 0, 0, 0, 1.0]] * 2)
    raw = make_tartanair(tmp_path / "raw", poses, np.full((48, 64), 2.0))
    for part in ("image_left", "depth_left"):
        with zipfile.ZipFile(tmp_path / f"office_Easy_{part}.zip", "w") as bundle:
            for file in (raw / part).iterdir():
                bundle.write(file, f"office/office/Easy/P003/{part}/{file.name}")
            bundle.write(raw / "pose_left.txt", "office/office/Easy/P003/pose_left.txt")
    archives = [str(tmp_path / f"office_Easy_{part}.zip") for part in ("image_left", "depth_left")]
    assert run("tartanair", "--dest", str(tmp_path / "d"), "--sequence", "office/Easy", "--archive", *archives) == 0
    sequence = open_sequence(tmp_path / "d/office/Easy/P003")
    assert len(sequence) == 2 and sequence.modes == ("mono", "rgbd") and sequence.groundtruth is not None


def test_7scenes_is_converted(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pose = np.array([[0, 0, 1, 1.5], [0, 1, 0, 0], [-1, 0, 0, 0.25], [0, 0, 0, 1]])
    for i in range(3):
        stem = raw / f"frame-{i:06d}"
        cv2.imwrite(f"{stem}.color.png", picture(i, (640, 480)))
        depth = np.full((480, 640), 1500, np.uint16)
        depth[:10] = 65535
        cv2.imwrite(f"{stem}.depth.png", depth)
        np.savetxt(f"{stem}.pose.txt", pose if i else np.full((4, 4), np.nan))
    inner = tmp_path / "scene" / "seq-03.zip"
    inner.parent.mkdir()
    pack(raw, inner, "seq-03/")
    script = load("7scenes")
    (folder,) = script.unpack("heads", [pack(tmp_path / "scene", tmp_path / "heads.zip", "heads/")], tmp_path / "d")
    sequence = open_sequence(folder)
    assert sequence.kind == "tum" and len(sequence) == 3 and sequence.modes == ("mono", "rgbd")
    depth_map, truth = sequence[1].depth, sequence.groundtruth
    assert depth_map is not None and depth_map[0, 0] == 0 and depth_map[200, 200] == np.float32(1.5)
    assert truth is not None and len(truth) == 2, "the frame without a pose has none"
    np.testing.assert_allclose(truth.poses[0], pose, atol=1e-8)
    np.testing.assert_allclose(truth.timestamps, [1 / 30, 2 / 30], atol=1e-6)


@pytest.mark.parametrize("name", ["scannet1500", "megadepth1500"])
def test_pair_archives(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as bundle:
        bundle.writestr(f"{name}/pairs_calibrated.txt", "a b\n")
    assert run(name, "--dest", str(tmp_path / "d"), "--archive", str(tmp_path / f"{name}.zip")) == 0
    assert (tmp_path / "d" / name / "pairs_calibrated.txt").read_text() == "a b\n"


def test_hpatches_archive(tmp_path: Path) -> None:
    release = "hpatches-sequences-release"
    with zipfile.ZipFile(tmp_path / f"{release}.zip", "w") as bundle:
        bundle.writestr(f"{release}/v_wall/H_1_2", "1 0 0\n0 1 0\n0 0 1\n")
        bundle.writestr(f"__MACOSX/{release}/v_wall/._H_1_2", "x")
    assert run("hpatches", "--dest", str(tmp_path / "d"), "--archive", str(tmp_path / f"{release}.zip")) == 0
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [release]


@pytest.mark.shared
def test_sample_is_made_by_its_script(shared: Path, tmp_path: Path) -> None:
    script = load("sample")
    sequence = open_sequence(shared / "tum" / "rgbd_dataset_freiburg1_rpy_first60").for_mode("rgbd")[:3]
    script._write(sequence, tmp_path / "cut")
    again, shipped = open_sequence(tmp_path / "cut"), open_sequence(DATASETS / "sample/rgbd_dataset_freiburg1_rpy_60")
    assert len(again) == 3 and again.camera == shipped.camera
    for i in range(3):
        np.testing.assert_array_equal(again[i].depth, shipped[i].depth)
        assert np.abs(again[i].image.astype(int) - shipped[i].image).mean() < 0.5, "but for the JPEG library's version"
