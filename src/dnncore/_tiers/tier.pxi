# One build tier: every loop for one element type and one instruction set, and the table that
# hands them to `dnncore._kernels`. Included by the modules of this folder, which differ only in
# the flags and macros that setup.py compiles them with.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint64_t, uintptr_t
from libc.math cimport exp, expm1, log, pow, sqrt
from libc.string cimport memcpy, memset

from dnncore._table cimport (
    ACT_ELU,
    ACT_GELU,
    ACT_GELU_TANH,
    ACT_HARD_SWISH,
    ACT_HARDTANH,
    ACT_LEAKY_RELU,
    ACT_MISH,
    ACT_RELU,
    ACT_SELU,
    ACT_SIGMOID,
    ACT_SILU,
    ACT_SOFTMAX,
    ACT_SOFTPLUS,
    ACT_SOFTSIGN,
    ACT_TANH,
    EPI_GATE,
    EPI_NONE,
    EPI_RELU,
    LOSS_BINARY_CLIPPED,
    LOSS_BINARY_CROSS_ENTROPY,
    LOSS_BINARY_FOCAL,
    LOSS_GAMMA,
    LOSS_HINGE,
    LOSS_HUBER,
    LOSS_LOG_COSH,
    LOSS_MAE,
    LOSS_MSE,
    LOSS_POISSON,
    LOSS_QUANTILE,
    LOSS_SOFTMAX_CLIPPED,
    LOSS_SOFTMAX_CROSS_ENTROPY,
    LOSS_SOFTMAX_FOCAL,
    LOSS_SQUARED_HINGE,
    LOSS_TWEEDIE,
    MATH_ERF,
    MATH_EXP,
    MATH_SIGMOID,
    MATH_TANH,
    OPT_ADADELTA,
    OPT_ADAGRAD,
    OPT_ADAM,
    OPT_LION,
    OPT_MOMENTUM,
    OPT_NADAM,
    OPT_NESTEROV,
    OPT_RADAM,
    OPT_RMSPROP,
    OPT_SGD,
    KernelTable,
    OptimizerSettings,
    Product,
    SparseRows,
)


cdef extern from "mathfuncs.h" nogil:
    """
    #include "steps.h"
    #include "zeros.h"
    #ifdef DNN_FLOAT64
    #define DNN_SQRT sqrt
    #define DNN_REAL_MAX 1.7976931348623157e308
    #define DNN_EPSILON 2.220446049250313e-16
    #define DNN_LOG_EPSILON 36.04365338911715
    #else
    #define DNN_SQRT sqrtf
    #define DNN_REAL_MAX 3.4028234663852886e38f
    #define DNN_EPSILON 1.1920928955078125e-7f
    #define DNN_LOG_EPSILON 15.942385152878742f
    #endif
    #define DNN_SELU_SCALE 1.0507009873554804934193349852946
    #define DNN_SELU_ALPHA 1.6732632423543772848170429916717
    #define DNN_SQRT_2_OVER_PI 0.79788456080286535588
    #define DNN_TWO_M31 4.656612873077392578125e-10
    #define DNN_TWO_M32 2.3283064365386962890625e-10
    /* From how many multiply-adds on BLAS is faster than `product`, measured per tier with BLAS
     * on the same instruction set: docs/decisions/0004-matmul-crossover.md. */
    #if DNN_VECTOR_BYTES >= 32
    #define DNN_BLAS_MIN_WORK HUGE_VAL
    #else
    #define DNN_BLAS_MIN_WORK 131072.0
    #endif
    enum {
        DNN_PANEL = 2 * DNN_LANES,
        DNN_LOSS_BLOCK = 128,
        DNN_SOFTMAX_BLOCK = 2048,
        DNN_COLUMN_BLOCK = 256,
        /* A block of packed A, ROW_BLOCK x DEPTH_BLOCK, and a packed panel of B, DEPTH_BLOCK x
         * PANEL, stay in the second-level cache. */
        DNN_DEPTH_BLOCK = 400,
        DNN_ROW_BLOCK = 264,
        /* Packing pays once what is packed is used often enough: a panel of B by many rows, a
         * block of A by many columns. */
        DNN_PACK_B_MIN_ROWS = 48,
        DNN_PACK_B_MIN_ELEMENTS = 4096,
        DNN_PACK_SLOW_B_MIN_ROWS = 2 * DNN_TILE_ROWS, /* packing asks for it ahead of time */
        DNN_FAR_B_BYTES = 512 * 1024,
        DNN_PACK_A_MIN_COLUMNS = 256,
        DNN_PACK_CROWDED_A_MIN_COLUMNS = 64,
        DNN_CROWDED_BYTES = 4096,
        DNN_FEW_ROWS = 3,
        DNN_SHALLOW = 2,
        DNN_TALL_COLUMNS = 12,
        DNN_TALL_ROWS = 128, /* in one go */
        DNN_TALL_MIN_ROWS = 64,
        DNN_TALL_MIN_DEPTH = 48,
        /* Zeros are skipped where a sample of vectors has enough of them. A chunk of packed rows,
         * CHUNK x STRIPE vectors, stays in the first-level cache. */
        DNN_CHUNK = 64,
        DNN_MAX_CHUNKS = DNN_DEPTH_BLOCK / DNN_CHUNK + 1,
        DNN_FAR_C_ELEMENTS = 32768, /* of lines that are asked for ahead of time */
        DNN_SAMPLES = 16,
        DNN_SKIP_MIN_LINES = 16,
        DNN_SKIP_MIN_WIDTH = 32,
        DNN_SKIP_MIN_DEPTH = 24
    };
    """
    ctypedef double real "dnn_real"
    ctypedef double vec "dnn_vec"
    ctypedef void inlined "DNN_ALWAYS_INLINE"
    enum:
        LANES "DNN_LANES"
        MR "DNN_MR"
        PANEL "DNN_PANEL"
        LOSS_BLOCK "DNN_LOSS_BLOCK"
        SOFTMAX_BLOCK "DNN_SOFTMAX_BLOCK"
        COLUMN_BLOCK "DNN_COLUMN_BLOCK"
        DEPTH_BLOCK "DNN_DEPTH_BLOCK"
        ROW_BLOCK "DNN_ROW_BLOCK"
        LOG2_LANES "DNN_LOG2_LANES"
        QUARTERS "DNN_QUARTERS"
        HALVES "DNN_HALVES"
        PACK_B_MIN_ROWS "DNN_PACK_B_MIN_ROWS"
        PACK_B_MIN_ELEMENTS "DNN_PACK_B_MIN_ELEMENTS"
        PACK_SLOW_B_MIN_ROWS "DNN_PACK_SLOW_B_MIN_ROWS"
        FAR_B_BYTES "DNN_FAR_B_BYTES"
        PACK_A_MIN_COLUMNS "DNN_PACK_A_MIN_COLUMNS"
        PACK_CROWDED_A_MIN_COLUMNS "DNN_PACK_CROWDED_A_MIN_COLUMNS"
        CROWDED_BYTES "DNN_CROWDED_BYTES"
        FEW_ROWS "DNN_FEW_ROWS"
        SHALLOW "DNN_SHALLOW"
        TALL_COLUMNS "DNN_TALL_COLUMNS"
        TALL_ROWS "DNN_TALL_ROWS"
        TALL_MIN_ROWS "DNN_TALL_MIN_ROWS"
        TALL_MIN_DEPTH "DNN_TALL_MIN_DEPTH"
        CHUNK "DNN_CHUNK"
        SUMMED_LINES "DNN_SUMMED_LINES"
        MAX_CHUNKS "DNN_MAX_CHUNKS"
        FAR_C_ELEMENTS "DNN_FAR_C_ELEMENTS"
        SAMPLES "DNN_SAMPLES"
        SKIP_MIN_LINES "DNN_SKIP_MIN_LINES"
        SKIP_MIN_WIDTH "DNN_SKIP_MIN_WIDTH"
        SKIP_MIN_DEPTH "DNN_SKIP_MIN_DEPTH"
        STRIPE "DNN_STRIPE"
        PAIR "DNN_PAIR"
    void prefetch "DNN_PREFETCH"(const real* p) noexcept
    void prefetch_far "DNN_PREFETCH_FAR"(const real* p) noexcept
    void claim "DNN_CLAIM"(const real* p) noexcept
    vec vload "DNN_LOAD"(const real* p) noexcept
    void vstore "DNN_STORE"(real* p, vec v) noexcept
    # The first n elements only; those beyond them are 0 when loaded, and not stored.
    vec vload_part "DNN_LOAD_PART"(const real* p, int n) noexcept
    void vstore_part "DNN_STORE_PART"(real* p, vec v, int n) noexcept
    vec broadcast "DNN_BROADCAST"(real x) noexcept
    vec interleave_low "DNN_INTERLEAVE_LOW"(vec a, vec b) noexcept
    vec interleave_high "DNN_INTERLEAVE_HIGH"(vec a, vec b) noexcept
    vec middle_low "DNN_MIDDLE_LOW"(vec a, vec b) noexcept
    vec middle_high "DNN_MIDDLE_HIGH"(vec a, vec b) noexcept
    vec last_low "DNN_LAST_LOW"(vec a, vec b) noexcept
    vec last_high "DNN_LAST_HIGH"(vec a, vec b) noexcept
    int line_of "DNN_LINE"(int i) noexcept
    int place "DNN_PLACE"(int i, int high) noexcept
    vec vmax "DNN_MAX"(vec a, vec b) noexcept
    vec vrelu "DNN_RELU"(vec v) noexcept
    vec vgate "DNN_GATE"(vec v, vec gate) noexcept
    real fabs_ "DNN_FABS"(real x) noexcept
    real sqrt_ "DNN_SQRT"(real x) noexcept
    real exp_ "dnn_exp"(real x) noexcept
    real exp_negative_ "dnn_exp_negative"(real x) noexcept
    real expm1_ "dnn_expm1"(real x) noexcept
    real tanh_ "dnn_tanh"(real x) noexcept
    real sigmoid_ "dnn_sigmoid"(real x) noexcept
    real softplus_ "dnn_softplus"(real x) noexcept
    real log1p_unit_ "dnn_log1p_unit"(real e) noexcept
    real erf_ "dnn_erf"(real x) noexcept
    real normal_tail_ "dnn_normal_tail"(real z, real* density) noexcept
    real log_ "dnn_log"(real x) noexcept
    real cos_turns_ "dnn_cos_turns"(real t) noexcept
    void steps "dnn_steps"(
        const int rows, const int vectors, const bint packs, vec (*acc)[2], Py_ssize_t depth,
        const real* a, Py_ssize_t a_row, Py_ssize_t a_step, const real* b, Py_ssize_t b_step,
        real* copy) noexcept
    void begin "dnn_begin"(
        const int rows, const int vectors, vec (*acc)[2], const vec* start) noexcept
    void finish "dnn_finish"(
        const bint whole, const int rows, const int vectors, vec (*acc)[2], int rest, real* c,
        Py_ssize_t c_row, bint accumulate, bint relu, const real* gate,
        Py_ssize_t gate_row) noexcept
    uint64_t nonzero "DNN_NONZERO"(vec v) noexcept
    int count_bits "DNN_COUNT_BITS"(uint64_t bits) noexcept
    void stripe_rows "dnn_stripe"(
        const int vectors, const int lines, const uint64_t* bits, const real* values,
        Py_ssize_t values_line, const real* b, Py_ssize_t b_step, const real* start,
        Py_ssize_t start_line, real* sums, int rest, real* c, Py_ssize_t c_row, bint accumulate,
        bint relu, const real* gate, Py_ssize_t gate_row) noexcept
    const double BLAS_MIN_WORK "DNN_BLAS_MIN_WORK"
    const real REAL_MAX "DNN_REAL_MAX"
    const real EPSILON "DNN_EPSILON"            # distance from 1 to the next number
    const real LOG_EPSILON "DNN_LOG_EPSILON"    # -log(EPSILON)
    const double SELU_SCALE "DNN_SELU_SCALE"
    const double SELU_ALPHA "DNN_SELU_ALPHA"
    const double LOG_2 "DNN_LOG_2"
    const double SQRT_2_OVER_PI "DNN_SQRT_2_OVER_PI"
    const double TWO_M31 "DNN_TWO_M31"          # 2^-31
    const double TWO_M32 "DNN_TWO_M32"

include "elementwise.pxi"
include "softmax.pxi"
include "losses.pxi"
include "optimizers.pxi"
include "matmul.pxi"
include "matmul_narrow.pxi"
include "matmul_zeros.pxi"
include "noise.pxi"
include "normalization.pxi"
include "sparse.pxi"
include "ceiling.pxi"
include "updates.pxi"

cdef KernelTable _table
_table.itemsize = sizeof(real)
_table.lanes = LANES
_table.blas_min_work = BLAS_MIN_WORK
_table.math = math
_table.activation_forward = activation_forward
_table.activation_forward_with_slope = activation_forward_with_slope
_table.multiply = multiply
_table.activation_backward = activation_backward
_table.product = product
_table.product_scratch = product_scratch
_table.column_sums = column_sums
_table.loss = loss
_table.optimizer = optimizer
_table.optimizer_terms = optimizer_terms
_table.dropout = dropout
_table.alpha_dropout = alpha_dropout
_table.gaussian_noise = gaussian_noise
_table.row_norm_forward = row_norm_forward
_table.row_norm_backward = row_norm_backward
_table.column_dots = column_dots
_table.column_moments = column_moments
_table.column_norm_forward = column_norm_forward
_table.column_norm_backward = column_norm_backward
_table.prelu_forward = prelu_forward
_table.prelu_backward = prelu_backward
_table.blend = blend
_table.add = add
_table.all_finite = all_finite
_table.sum_squares = sum_squares
_table.accumulate = accumulate
_table.claim = claim_elements
_table.shape_gradient = shape_gradient
_table.move_towards = move_towards
_table.limit_columns = limit_columns
_table.sparse_forward = sparse_forward
_table.sparse_gradient = sparse_gradient
_table.multiply_adds = multiply_adds

table = PyCapsule_New(&_table, "dnncore.KernelTable", NULL)
