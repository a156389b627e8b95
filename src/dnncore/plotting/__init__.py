"""Pictures of training, of predictions and of what a network has learnt; they need matplotlib.

Each function draws into the axes it is given, or into new ones, and returns them.

============================  =============================================================
``plot_history``              losses and metrics by epoch
``plot_confusion_matrix``     which classes are taken for which
``plot_predictions``          predicted values against the truth
``plot_decision_boundary``    what a network of two inputs answers where
``plot_weights``              weights of a layer as pictures
``plot_learning_rates``       the loss while the learning rate grows
``plot_layer_statistics``     dead units, saturation, gradients by layer and epoch
``plot_profile``              where the time of a training step goes
============================  =============================================================
"""

from __future__ import annotations

from dnncore.plotting._boundary import plot_decision_boundary
from dnncore.plotting._confusion import plot_confusion_matrix
from dnncore.plotting._history import plot_history
from dnncore.plotting._learning_rate import plot_learning_rates
from dnncore.plotting._predictions import plot_predictions
from dnncore.plotting._profile import plot_profile
from dnncore.plotting._statistics import plot_layer_statistics
from dnncore.plotting._weights import plot_weights

__all__ = [
    "plot_confusion_matrix",
    "plot_decision_boundary",
    "plot_history",
    "plot_layer_statistics",
    "plot_learning_rates",
    "plot_predictions",
    "plot_profile",
    "plot_weights",
]
