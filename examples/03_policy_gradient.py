"""Reinforcement learning: balance a pole on a cart with policy gradients.

REINFORCE (Williams 1992, "Simple statistical gradient-following algorithms"): play, then make the
actions that did better than average more likely. The cart is that of Barto, Sutton and Anderson
1983, "Neuronlike adaptive elements"; an episode lasts until the pole falls, at most 200 steps.

Run: python examples/03_policy_gradient.py
"""

import numpy as np

import dnncore as dnn

EPISODES, LONGEST, DISCOUNT = 32, 200, 0.99


def move(state, right):
    """Push each cart left or right for 20 ms; returns new states and which poles still stand."""
    x, v, angle, spin = state.T
    force = np.where(right, 10.0, -10.0)
    push = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
    turn = (9.8 * np.sin(angle) - np.cos(angle) * push) / (
        0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
    )
    speed_up = push - 0.05 * turn * np.cos(angle) / 1.1
    state = state + 0.02 * np.column_stack([v, speed_up, spin, turn])
    return state, (np.abs(state[:, 0]) < 2.4) & (np.abs(state[:, 2]) < 0.21)


def play(net, rng):
    """Play all episodes side by side; returns states, actions and which steps counted."""
    state, stands = rng.uniform(-0.05, 0.05, (EPISODES, 4)), np.ones(EPISODES, bool)
    states, actions, counted = [], [], []
    while stands.any() and len(states) < LONGEST:
        right = rng.random(EPISODES) < net.predict_proba(state)[:, 1]
        states.append(state)
        actions.append(right)
        counted.append(stands)
        state, up = move(state, right)
        stands = stands & up
    return np.array(states), np.array(actions), np.array(counted)


rng = np.random.default_rng(0)
net = dnn.Network(4, [dnn.Dense(32, "tanh"), dnn.Dense(2)], loss="softmax_cross_entropy", seed=0)
optimizer = dnn.Adam(0.02)
for iteration in range(41):
    states, actions, counted = play(net, rng)
    if iteration % 10 == 0:
        print(f"iteration {iteration}: the pole stands for {counted.sum(axis=0).mean():.1f} steps")
    returns, total = np.zeros(counted.shape), np.zeros(EPISODES)
    for t in reversed(range(len(counted))):
        returns[t] = total = counted[t] * (1 + DISCOUNT * total)
    advantage = (returns[counted] - returns[counted].mean()) / (returns[counted].std() + 1e-8)
    z = net.forward(states[counted])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    chosen = np.eye(2)[actions[counted].astype(int)]
    net.backward((p - chosen) * advantage[:, np.newaxis] / len(z))
    net.step(optimizer)
