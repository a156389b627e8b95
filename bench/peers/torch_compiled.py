"""PyTorch with forward and loss compiled into one function by Inductor."""

from __future__ import annotations

from typing import Any

import torch
from peers import torch_eager
from torch import nn


class Contender(torch_eager.Contender):
    def make_forward_loss(self, model: nn.Module, loss: Any) -> Any:
        return torch.compile(super().make_forward_loss(model, loss), fullgraph=True, dynamic=False)

    def make_forward(self, model: nn.Module) -> Any:
        return torch.compile(super().make_forward(model), fullgraph=True, dynamic=False)
