"""Time and peak memory of `emhance enhance`, split into stages, beside the best a plain convolution reaches here.

    python benchmarks/speed.py [--boxes 128 256 512] [--single] [--precision float32] [--options --gpus none ...]

Each box runs in a process of its own, so that peak memory is its own. The share of the best is the network's operations per
second over those of the fastest of a few 3x3x3 convolutions, measured in the same run right before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from emhance import DensityMap, Geometry, write_map
from emhance.network.devices import pick_precision
from emhance.network.weights import load_network


def best_convolution(precision: torch.dtype, seconds: float = 6.0) -> float:
    """Operations per second of the fastest plain 3x3x3 convolution, as it comes (channels last)."""
    best = 0.0
    with torch.inference_mode():
        for channels, edge in ((32, 96), (64, 64), (80, 64), (128, 32)):
            layer = torch.nn.Conv3d(channels, channels, 3, padding=1).to(precision).to(memory_format=torch.channels_last_3d)
            x = torch.randn(1, channels, edge, edge, edge).to(precision).to(memory_format=torch.channels_last_3d)
            layer(x)
            end = time.perf_counter() + seconds / 4
            while time.perf_counter() < end:
                start = time.perf_counter()
                layer(x)
                best = max(best, 2 * 27 * channels**2 * edge**3 / (time.perf_counter() - start))
    return best


def write_example(folder: Path, box: int, *, single: bool) -> list[Path]:
    """Half maps of a ball of random density in noise, 1 Å voxels."""
    rng = np.random.default_rng(box)
    axis = np.arange(box, dtype=np.float32) - box / 2
    signal = np.empty((box, box, box), np.float32)
    for z in range(box):
        inside = axis[z] ** 2 + axis[:, None] ** 2 + axis[None, :] ** 2 < (0.35 * box) ** 2
        signal[z] = np.where(inside, 3.0 + 4.0 * rng.standard_normal((box, box), np.float32), 0.0)
    paths = []
    for number in (1,) if single else (1, 2):
        noisy = signal + rng.standard_normal(signal.shape, np.float32)
        path = folder / f"box{box}_half{number}.mrc"
        write_map(path, DensityMap(noisy, Geometry.whole_box(signal.shape, 1.0)))
        paths.append(path)
    return paths


def run_one(arguments: list[str]) -> dict:
    """Run the program in a child process and return its provenance with wall time and peak memory."""
    code = (
        "import sys, json, resource, time; start = time.perf_counter()\n"
        "from emhance.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as end: sys.exit(end.code) if end.code else None\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "print(json.dumps([time.perf_counter() - start, peak]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    wall, peak = json.loads(done.stderr.strip().splitlines()[-1])
    output = Path(arguments[arguments.index("-o") + 1])
    record = json.loads(output.with_suffix(".json").read_text())
    return {"wall": wall, "peak": peak, **record}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--single", action="store_true", help="one map instead of two half maps")
    parser.add_argument("--precision", default="auto", help="of the network and of the convolution beside it")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=["--gpus", "none"], help="passed on to emhance enhance")
    args = parser.parse_args()
    operations = load_network("tight").module.operations_per_voxel()
    precision = pick_precision(args.precision, torch.device("cpu"))
    name_of_precision = str(precision).removeprefix("torch.")
    print(
        f"network: {operations / 1000:.1f} kFLOP/voxel; {name_of_precision}; threads: {torch.get_num_threads()}; "
        f"torch {torch.__version__}"
    )
    columns = ["box", "wall s", "network s", "other s", "ns/voxel", "peak GiB"]
    columns += ["GFLOP/s", "best convolution", "share of it", "network's share"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for box in args.boxes:
        best = best_convolution(precision)
        with tempfile.TemporaryDirectory() as name:
            inputs = write_example(Path(name), box, single=args.single)
            options = ["-o", f"{name}/out.mrc", "--quiet", "--precision", name_of_precision, *args.options]
            result = run_one(["enhance", *map(str, inputs), *options])
        network, wall = result["seconds"]["network"], result["wall"]
        rate = operations * box**3 / network
        cells = (
            str(box),
            f"{wall:.1f}",
            f"{network:.1f}",
            f"{wall - network:.1f}",
            f"{wall / box**3 * 1e9:.0f}",
            f"{result['peak'] / 2**30:.2f}",
            f"{rate / 1e9:.0f}",
            f"{best / 1e9:.0f}",
            f"{rate / best:.0%}",
            f"{network / wall:.0%}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)
        print("  stages, s:", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result["seconds"].items()), flush=True)


if __name__ == "__main__":
    main()
