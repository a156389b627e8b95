"""PyTorch, eager: preloaded tensors, fused optimizer, no DataLoader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from workloads import BETA1, BETA2, EPSILON, MOMENTUM, Array, Parameters, Workload

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
LOSSES = {
    "softmax_cross_entropy": nn.functional.cross_entropy,
    "binary_cross_entropy": nn.functional.binary_cross_entropy_with_logits,
    "mse": nn.functional.mse_loss,
}


class Contender:
    def __init__(
        self, work: Workload, parameters: Parameters, x: Array, y: Array, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        torch.manual_seed(0)
        self.work = work
        dtype = getattr(torch, work.dtype)
        modules: list[nn.Module] = []
        self.linears = []
        for i, (w, b) in enumerate(parameters):
            # skip_init: the parameters are given, so drawing others first is not its cost.
            linear = nn.utils.skip_init(nn.Linear, *w.shape, dtype=dtype)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w).T)
                linear.bias.copy_(torch.from_numpy(b))
            self.linears.append(linear)
            modules.append(linear)
            if i + 1 < len(parameters):
                modules.append(ACTIVATIONS[work.activation]())
        self.model = nn.Sequential(*modules)
        self.x = torch.from_numpy(x)
        self.y = torch.from_numpy(y)
        if work.loss != "softmax_cross_entropy":
            self.y = self.y.to(dtype).unsqueeze(1)
        if work.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                self.model.parameters(),
                lr=work.learning_rate,
                betas=(BETA1, BETA2),
                eps=EPSILON,
                fused=True,
            )
        else:
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=work.learning_rate, momentum=MOMENTUM, fused=True
            )
        self.forward_loss = self.make_forward_loss(self.model, LOSSES[work.loss])
        self.forward = self.make_forward(self.model)

    def make_forward_loss(self, model: nn.Module, loss: Any) -> Any:
        def forward_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss(model(x), y)  # type: ignore[no-any-return]

        return forward_loss

    def make_forward(self, model: nn.Module) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(model(x), 1)

        return forward

    def run(self, epochs: int, shuffle: bool) -> None:
        n, batch = self.work.n, self.work.batch
        optimizer, forward_loss = self.optimizer, self.forward_loss
        for _ in range(epochs):
            order = torch.randperm(n) if shuffle else torch.arange(n)
            for rows in order.split(batch):
                xb, yb = self.x.index_select(0, rows), self.y.index_select(0, rows)
                loss = forward_loss(xb, yb)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    def parameters(self) -> Parameters:
        return [
            (
                np.ascontiguousarray(linear.weight.detach().numpy().T),
                linear.bias.detach().numpy().copy(),
            )
            for linear in self.linears
        ]

    def row(self, x: Array) -> torch.Tensor:
        return torch.from_numpy(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.forward(x)  # type: ignore[no-any-return]

    def versions(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "torch threads": str(torch.get_num_threads()),
            "torch SIMD": torch.backends.cpu.get_cpu_capability(),
        }
