"""Optimizers: one update of one parameter array, in place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._validation import check_choice, check_int

__all__ = ["OPTIMIZERS", "optimizer_update"]

Array = NDArray[np.floating]

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("v",),
    "nesterov": ("v",),
    "rmsprop": ("v",),
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
    "nadam": ("m", "v"),
    "radam": ("m", "v"),
    "adagrad": ("v",),
    "adadelta": ("v", "u"),
    "lion": ("m",),
}
"""Every optimizer by name, with the arrays it keeps between updates."""


def optimizer_update(
    name: str,
    w: Array,
    g: Array,
    state: dict[str, Array],
    step: int,
    *,
    lr: float,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    rho: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    r"""Update ``w`` and ``state`` in place; ``g`` is left alone.

    With ``g`` standing for ``g + l2 w`` and ``c_i = 1 - beta_i**step``::

        sgd       w -= lr g
        momentum  v  = momentum v - lr g;           w += v
        nesterov  v  = momentum v - lr g;           w += momentum v - lr g
        rmsprop   v  = rho v + (1 - rho) g**2;      w -= lr g / (sqrt(v) + eps)
        adam      m  = beta1 m + (1 - beta1) g
                  v  = beta2 v + (1 - beta2) g**2;  w -= lr / c_1 m / (sqrt(v) / sqrt(c_2) + eps)
        adamw     w -= lr weight_decay w;           then as adam, with g taken before the decay
        nadam     as adam, with m / c_1 replaced by
                  mu_t+1 m / (1 - mu_1 ... mu_t+1) + (1 - mu_t) g / (1 - mu_1 ... mu_t),
                  where mu_t = beta1 (1 - 0.96**(t / 250) / 2)
        radam     as adam, with lr times r(rho), and eps added to sqrt(v) itself; while rho <= 5
                  just w -= lr / c_1 m. With rho_inf = 2 / (1 - beta2) - 1 and
                  rho = rho_inf - 2 t beta2**t / c_2, r(rho)**2 is
                  (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)
        adagrad   v += g**2;                        w -= lr g / (sqrt(v) + eps)
        adadelta  v  = rho v + (1 - rho) g**2;      d  = g sqrt(u + eps) / sqrt(v + eps)
                  u  = rho u + (1 - rho) d**2;      w -= lr d
        lion      w -= lr weight_decay w;           then
                  w -= lr sign(beta1 m + (1 - beta1) g);    m = beta2 m + (1 - beta2) g

    Parameters
    ----------
    name : str
        A key of :data:`OPTIMIZERS`.
    w : ndarray
        Parameters.
    g : ndarray of the same shape
        Gradient of the loss by the parameters.
    state : dict of str to ndarray
        The arrays named in :data:`OPTIMIZERS`, of the shape of ``w``. Those missing are made,
        as zeros: pass an empty dict to begin.
    step : int
        Number of this update, counted from 1.
    lr : float
        Learning rate.
    l2 : float
        Factor of the penalty ``l2 ||w||**2 / 2`` whose gradient is added to ``g``.
    weight_decay : float
        Decoupled decay, for ``adamw`` and ``lion`` only.
    momentum, rho, beta1, beta2, eps : float
        As in the formulas.

    Raises
    ------
    ValueError
        For an unknown name, a step below 1, or a decay for an optimizer that has none.

    References
    ----------
    Momentum: Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964.
    Nesterov: Sutskever et al., *On the importance of initialization and momentum*, ICML 2013.
    RMSprop: Tieleman and Hinton, *Neural networks for machine learning*, lecture 6.5, 2012.
    Adam: Kingma and Ba, arXiv:1412.6980. AdamW: Loshchilov and Hutter, arXiv:1711.05101.
    Nadam: Dozat, *Incorporating Nesterov momentum into Adam*, ICLR workshop 2016.
    RAdam: Liu et al., *On the variance of the adaptive learning rate*, arXiv:1908.03265; with
    the authors' later bound of 5 on rho for the paper's 4.
    Adagrad: Duchi, Hazan and Singer, *Adaptive subgradient methods*, JMLR 12, 2011.
    Adadelta: Zeiler, arXiv:1212.5701. Lion: Chen et al., arXiv:2302.06675.
    """
    check_choice(name, "optimizer", OPTIMIZERS)
    check_int(step, "step")
    if weight_decay and name not in ("adamw", "lion"):
        raise ValueError(
            f"weight_decay is the decoupled decay of 'adamw' and 'lion'; {name!r} has none. "
            "Use l2 instead."
        )
    for key in OPTIMIZERS[name]:
        if key not in state:
            state[key] = np.zeros_like(w)
    if l2:
        g = g + l2 * w

    if name == "sgd":
        w -= lr * g
    elif name in ("momentum", "nesterov"):
        v = state["v"]
        v[...] = momentum * v - lr * g
        w += v if name == "momentum" else momentum * v - lr * g
    elif name == "rmsprop":
        v = state["v"]
        v[...] = rho * v + (1 - rho) * g * g
        w -= lr * g / (np.sqrt(v) + eps)
    elif name == "adagrad":
        v = state["v"]
        v += g * g
        w -= lr * g / (np.sqrt(v) + eps)
    elif name == "adadelta":
        v, u = state["v"], state["u"]
        v[...] = rho * v + (1 - rho) * g * g
        d = g * np.sqrt(u + eps) / np.sqrt(v + eps)
        u[...] = rho * u + (1 - rho) * d * d
        w -= lr * d
    elif name == "lion":
        m = state["m"]
        direction = np.sign(beta1 * m + (1 - beta1) * g)
        w -= lr * weight_decay * w + lr * direction
        m[...] = beta2 * m + (1 - beta2) * g
    else:
        if name == "adamw":
            w -= lr * weight_decay * w
        m, v = state["m"], state["v"]
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        c1, c2 = 1 - beta1**step, 1 - beta2**step
        if name == "nadam":
            mu = [beta1 * (1 - 0.5 * 0.96 ** (t / 250)) for t in range(1, step + 2)]
            past = math.prod(mu[:-1])
            direction = mu[-1] * m / (1 - past * mu[-1]) + (1 - mu[-2]) * g / (1 - past)
            w -= lr * direction / (np.sqrt(v) / math.sqrt(c2) + eps)
        elif name == "radam":
            longest = 2 / (1 - beta2) - 1
            length = longest - 2 * step * beta2**step / c2
            if length > 5:
                damping = (length - 4) * (length - 2) / length
                damping *= longest / ((longest - 4) * (longest - 2))
                w -= lr * math.sqrt(damping) * m / c1 * math.sqrt(c2) / (np.sqrt(v) + eps)
            else:
                w -= lr * m / c1
        else:
            w -= lr / c1 * m / (np.sqrt(v) / math.sqrt(c2) + eps)
