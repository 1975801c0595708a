"""Half-map pairs whose FSC is known."""

import numpy as np


def radius(n: int, voxel_size: float = 1.0) -> np.ndarray:
    f = np.fft.fftfreq(n, voxel_size)
    h = np.fft.rfftfreq(n, voxel_size)
    return np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + h[None, None, :] ** 2)


def filtered_noise(n: int, gain: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((n, n, n))
    return np.fft.irfftn(np.fft.rfftn(noise) * gain, s=(n, n, n), axes=(0, 1, 2)).astype(np.float32)


def noisy_pair(signal: np.ndarray, noise_std: float, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple((signal + rng.standard_normal(signal.shape) * noise_std).astype(np.float32) for _ in range(2))


def ball(n: int, share: float = 0.3) -> np.ndarray:
    axis = np.arange(n) - n / 2
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    return (r < share * n).astype(np.float32)
