"""How fast imported networks run: beside TensorFlow and beside a plain torch implementation, in one run on one machine.

    python benchmarks/legacy.py CHECKPOINT.hd5 [--tensorflow PYTHON] [--rounds 3] [--tiles 8]

`--tensorflow` names a Python that has TensorFlow 2.x with Keras 2 (such as 2.15) and NumPy, in an environment of its own. All
candidates take turns, eight tiles at a time, so that other load on the machine hits all of them; figures are medians, and
ratios come first.
With `--map MAP.mrc` whole runs on that map are timed: the exact mode, beside TensorFlow's time for the network alone on as many
tiles (less than the reference program needs, which also normalises, resizes and writes), and the corrected way at each of
`--strides`, whose results are compared with that of the first. With
`--cpu-time` everything is measured as CPU time of all threads: the fairer figure where much else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from emhance.config import EnhanceConfig
from emhance.legacy.enhancing import BATCH, enhance_with_imported
from emhance.legacy.importing import KerasNetwork, load_keras
from emhance.legacy.keras_layers import BufferGroupNormalization
from emhance.maps.mrc import read_map

Clock = Callable[[], float]

WORKER = """
import sys, time
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))

class GroupNormalization(tf.keras.layers.Layer):
    def __init__(self, groups=32, axis=-1, epsilon=1e-5, center=True, scale=True, **options):
        for key in [k for k in options if k.endswith(("_initializer", "_regularizer", "_constraint"))]:
            options.pop(key)
        super().__init__(**options)
        self.groups, self.epsilon = groups, epsilon
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), name="beta")
    def call(self, x):
        s, c, g = tf.shape(x), x.shape[-1], self.groups
        y = tf.reshape(x, [s[0], g, s[1], s[2], s[3], c // g])
        mean, variance = tf.nn.moments(y, [2, 3, 4, 5], keepdims=True)
        y = (y - mean) / tf.sqrt(variance + self.epsilon)
        shape = [1, g, 1, 1, 1, c // g]
        return tf.reshape(y * tf.reshape(self.gamma, shape) + tf.reshape(self.beta, shape), s)

clock = getattr(time, sys.argv[3])
model = tf.keras.models.load_model(sys.argv[1], custom_objects={"GroupNormalization": GroupNormalization}, compile=False)
box = model.input_shape[1]
for line in sys.stdin:
    tiles, batch = map(int, line.split())
    x = np.random.default_rng(0).normal(size=(batch, box, box, box, 1)).astype(np.float32)
    start = clock()
    for _ in range(tiles // batch):
        y = model.predict_on_batch(x)
    print("SECONDS", clock() - start, float(np.abs(y).sum()), flush=True)
"""


class PlainGroupNormalization(nn.Module):
    """The normalisation in separate steps on channels-first memory."""

    def __init__(self, other: BufferGroupNormalization) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch."""
        n, c, z, y, w = x.shape
        groups, width = self.other.groups, c // self.other.groups
        blocks = x.permute(0, 2, 3, 4, 1).contiguous().view(n, groups, z * y * w, width)
        variance, mean = torch.var_mean(blocks, (2, 3), correction=0, keepdim=True)
        blocks = (blocks - mean) / torch.sqrt(variance + self.other.epsilon)
        blocks = blocks * self.other.gamma.view(1, groups, 1, width) + self.other.beta.view(1, groups, 1, width)
        return blocks.view(n, z, y, w, c).permute(0, 4, 1, 2, 3).contiguous()


def plain(network: KerasNetwork) -> nn.Module:
    """The same network with a plain normalisation on channels-first memory."""
    module = type(network.module)(network.checkpoint)
    for i, layer in enumerate(module.layers):
        if isinstance(layer, BufferGroupNormalization):
            module.layers[i] = PlainGroupNormalization(layer)
        elif hasattr(layer, "kernel"):
            layer.kernel = layer.kernel.contiguous()
    return module


def in_torch(module: nn.Module, box: int, tiles: int, batch: int, clock: Clock) -> Callable[[], float]:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, 1, box, box, box)).astype(np.float32))

    def run() -> float:
        start = clock()
        with torch.inference_mode():
            for _ in range(tiles // batch):
                module(x)
        return clock() - start

    return run


def in_tensorflow(worker: subprocess.Popen[str], tiles: int, batch: int) -> Callable[[], float]:
    def run() -> float:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f"{tiles} {batch}\n")
        worker.stdin.flush()
        for line in worker.stdout:
            if line.startswith("SECONDS"):
                return float(line.split()[1])
        raise RuntimeError("the TensorFlow process ended")

    return run


def compare_strides(
    network: KerasNetwork, path: Path, config: EnhanceConfig, strides: Sequence[int], clock: Clock
) -> dict[str, dict[str, float]]:
    """Seconds of the corrected way at several strides, and the difference of its result from the first one."""
    source = read_map(path)
    found: dict[str, dict[str, float]] = {}
    reference = None
    for stride in strides:
        start = clock()
        data = enhance_with_imported(source, network=network, config=config, stride=stride).map.data
        seconds = clock() - start
        reference = data if reference is None else reference
        found[f"stride {stride}"] = {
            "seconds": round(seconds, 1),
            f"correlation with stride {strides[0]}": round(float(np.corrcoef(data.ravel(), reference.ravel())[0, 1]), 6),
            "largest difference / maximum": round(float(np.abs(data - reference).max() / np.abs(reference).max()), 4),
        }
        print(f"stride {stride}:", found[f"stride {stride}"], flush=True)
    return found


def compare_exact(
    network: KerasNetwork, path: Path, config: EnhanceConfig, tensorflow: Callable[[int], float] | None, clock: Clock
) -> None:
    """Seconds of a whole run in exact mode, and of TensorFlow's network calls alone for as many tiles."""
    tiles = 0

    def count(stage: str, done: int, total: int) -> None:
        nonlocal tiles
        tiles = total if stage == "network" else tiles

    start = clock()
    enhance_with_imported(read_map(path), network=network, config=config, exact=True, progress=count)
    seconds = clock() - start
    print(f"exact mode, whole run, {tiles} tiles: {seconds:.1f} s", flush=True)
    if tensorflow is not None:
        whole = tensorflow(-(-tiles // BATCH) * BATCH)
        print(f"TensorFlow, the network alone on as many tiles: {whole:.1f} s, {whole / seconds:.2f} times as long", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tensorflow", help="a Python with TensorFlow and Keras 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=BATCH, help="per turn, a multiple of 8")
    parser.add_argument("--map", type=Path)
    parser.add_argument("--noise", type=float, nargs=2, metavar=("MEAN", "STD"))
    parser.add_argument("--strides", type=int, nargs="+", default=(16, 32, 48, 64))
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    network = load_keras(options.checkpoint)
    box, tiles = network.tile_size, options.tiles
    candidates = {
        "emhance": in_torch(network.module, box, tiles, BATCH, clock),
        "emhance, two tiles at a time": in_torch(network.module, box, tiles, 2, clock),
        "plain torch": in_torch(plain(network), box, tiles, BATCH, clock),
    }
    worker = None
    if options.tensorflow:
        command = [options.tensorflow, "-c", WORKER, str(options.checkpoint), str(torch.get_num_threads()), clock.__name__]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        candidates["TensorFlow (reference)"] = in_tensorflow(worker, tiles, BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()  # warm-up
    for _ in range(options.rounds):
        for name, run in candidates.items():
            seconds[name].append(run() / tiles)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = medians["emhance"]
    for name, value in medians.items():
        print(f"{name:34s} {value / best:6.2f} x   {1000 * value:7.0f} ms per tile")
    print(json.dumps({"checkpoint": network.name, "threads": torch.get_num_threads(), "python": sys.version.split()[0]}))
    if options.map is not None:
        noise = options.noise or (None, None)
        config = EnhanceConfig(noise_mean=noise[0], noise_std=noise[1])
        whole = None if worker is None else lambda count: in_tensorflow(worker, count, BATCH)()
        compare_exact(network, options.map, config, whole, clock)
        compare_strides(network, options.map, config, options.strides, clock)
    if worker is not None and worker.stdin is not None:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
