"""What learns: network, average and optimiser, one step at a time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from emhance.errors import EmhanceError
from emhance.network.unet import UNet, channels_last
from emhance.training.batches import on_device
from emhance.training.dataset import Crops
from emhance.training.losses import enhancement_loss, recombined
from emhance.training.processes import Processes, training_precision
from emhance.training.training_config import TrainingConfig

MOMENTUM = 0.97
"""Decay of the running means in the log, per step."""


class Learner:
    """The network, its average and its optimiser: what a checkpoint holds."""

    def __init__(self, config: TrainingConfig, own: Processes) -> None:
        self.config, self.device = config, own.device
        torch.manual_seed(config.seed)
        self.network = channels_last(UNet(config.network).to(own.device))
        self.average = UNet(config.network).to(own.device).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
        )
        self.precision = training_precision(config.precision, own.device)
        self.step, self.seconds, self.waiting = 0, 0.0, 0.0
        self.running: dict[str, float] = {}
        self.scores: dict[str, float] = {}

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with these weights."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "waiting": self.waiting,
            "running": self.running,
            "scores": self.scores,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shape": self.config.network.to_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.seconds, self.waiting = float(state.get("seconds", 0.0)), float(state.get("waiting", 0.0))
        self.running, self.scores = dict(state.get("running", {})), dict(state.get("scores", {}))

    def learn(self, shared: torch.nn.Module, crops: Crops) -> None:
        """One step; `shared` is the network whose gradients are averaged over all processes."""
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = crops.inputs.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            prediction = shared(x)
        loss, terms = self._loss(prediction.float(), crops)
        if not math.isfinite(terms["loss"]):
            raise EmhanceError(
                f"The loss is {terms['loss']} at step {self.step + 1}; the last checkpoint is sound, go on from it."
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(current, 1 - decay)
        self.running = {key: MOMENTUM * self.running.get(key, value) + (1 - MOMENTUM) * value for key, value in terms.items()}

    def _loss(self, prediction: Tensor, crops: Crops) -> tuple[Tensor, dict[str, float]]:
        reliability = crops.reliability if self.config.data_weighting else None
        loss, terms = enhancement_loss(prediction, crops.targets, reliability=reliability)
        if self.config.recombined > 0:
            again, _ = enhancement_loss(*self._recombined(prediction, crops), reliability=reliability)
            loss = loss + self.config.recombined * again
            terms = {**terms, "loss": float(loss.detach()), "recombined": float(again.detach())}
        return loss, terms

    def _recombined(self, prediction: Tensor, crops: Crops) -> tuple[Tensor, Tensor]:
        voxel_size = self.config.simulation.voxel_size
        return recombined(prediction, crops.inputs, crops.targets, crops.reliability, voxel_size=voxel_size)

    def validate(self, cases: list[Any]) -> dict[str, float]:
        """Terms of the loss with the averaged weights, and how the recombined crops correlate with the targets."""
        self.average.eval()
        totals: dict[str, float] = {}
        with torch.no_grad():
            for case in cases:
                crops = on_device(self.device, case)
                prediction = self.average(crops.inputs)
                _, terms = self._loss(prediction, crops)
                _, again = enhancement_loss(*self._recombined(prediction, crops))
                terms["recombined_correlation"] = again["correlation"]
                for key, value in terms.items():
                    totals[key] = totals.get(key, 0.0) + value / len(cases)
        return totals

    def row(self) -> dict[str, Any]:
        """A row of the log."""
        return {
            "step": self.step,
            "seconds": round(self.seconds),
            "learning_rate": f"{learning_rate(self.config, self.step - 1):.3g}",
            "loader_share": round(self.waiting / max(self.seconds, 1e-9), 3),
            **{key: round(value, 4) for key, value in self.running.items()},
            **{f"validation_{key}": round(value, 4) for key, value in self.scores.items()},
        }


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The schedule: linear rise, then cosine to 1 % of the peak."""
    rise = min(1.0, (step + 1) / config.warm_up)
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * rise * (0.01 + 0.99 * fall)
