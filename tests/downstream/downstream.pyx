import numpy as np

from dnncore._kernels cimport linear_forward, needs_input, scratch_elements
from dnncore._table cimport ACT_GELU, ACT_RELU


def hidden_layer(const float[:, ::1] x, const float[:, ::1] w, const float[::1] b):
    """Return relu(x @ w + b); no sizes of zero."""
    if x.shape[1] != w.shape[0] or b.shape[0] != w.shape[1]:
        raise ValueError("shapes do not fit")
    out = np.empty((x.shape[0], w.shape[1]), np.float32)
    cdef float[:, ::1] a = out
    cdef float[::1] scratch = np.empty(scratch_elements(sizeof(float)), np.float32)
    with nogil:  # relu does not need its input, so z and a may be the same array
        linear_forward[float](ACT_RELU, x.shape[0], w.shape[0], w.shape[1], &x[0, 0],
                              &w[0, 0], &b[0], &a[0, 0], &a[0, 0], &scratch[0])
    return out


def keeps_z():
    return needs_input(ACT_RELU), needs_input(ACT_GELU)
