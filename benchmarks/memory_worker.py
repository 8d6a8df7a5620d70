"""The process that `benchmarks.memory` looks at: one odometry run that notes its own resident memory.

Nothing of slamfeat is imported before the baseline is taken, which is Python with torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch


def resident_mb(field: str = "VmRSS") -> float:
    """Resident memory of this process now (VmRSS) or at its highest (VmHWM), in MB of 1e6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit(f"/proc/self/status has no {field}: this script needs Linux")


def forget_peak() -> None:
    """Let VmHWM start anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Words: the sequence, the mode, samples are taken every so many frames, the run folder, KEY=VALUE settings."""
    path, mode, every, out, *overrides = sys.argv[1:]
    torch.ones(64, 64) @ torch.ones(64, 64)
    baseline = resident_mb()

    from slamfeat.config import to_yaml
    from slamfeat.data import open_sequence
    from slamfeat.vo.pipeline import build_frontend, load_pipeline
    from slamfeat.vo.report import FrameReport
    from slamfeat.vo.run import run_odometry, summary
    from slamfeat.vo.runfolder import run_folder, write_run
    from slamfeat.vo.setup import build_odometry, choose_mode

    config = load_pipeline(None, overrides)
    sequence = open_sequence(path)
    chosen = choose_mode(mode, sequence)
    view = sequence.for_mode(chosen)
    frontend = build_frontend(config)
    preparing_peak = resident_mb("VmHWM")
    forget_peak()
    odometry = build_odometry(frontend, view, chosen, "auto", config.vo)
    samples: list[tuple[int, float]] = []

    def note(report: FrameReport) -> None:
        if len(odometry.reports) % int(every) == 0:
            samples.append((len(odometry.reports), resident_mb()))

    result = run_odometry(view, odometry, progress=note)
    tracking_peak = resident_mb("VmHWM")
    row = summary(result, sequence.name, odometry, Path(out))
    with run_folder(Path(out), overwrite=False) as folder:
        (folder / "run.log").touch()
        write_run(folder, to_yaml(config), result, row, view.groundtruth)
    print(json.dumps({
        "baseline_mb": baseline, "preparing_mb": preparing_peak, "tracking_peak_mb": tracking_peak,
        "peak_mb": resident_mb("VmHWM"), "samples": samples, "frames": result.total, "tracked": result.tracked,
        "keyframes": row["keyframes"], "fps": result.fps, "frontend": frontend.name, "mode": chosen,
        "engine": f"{frontend.engine.name} {frontend.engine.precision}",
    }))  # fmt: skip


if __name__ == "__main__":
    main()
