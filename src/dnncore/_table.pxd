"""What the kernels of one build tier and element type offer to the rest of the library.

The loops in ``_tiers/`` are compiled once per element type and instruction set. Each of these
modules fills one ``KernelTable`` and passes it on in a capsule; ``_kernels`` opens the best one
that the processor can run. Data pointers are untyped here because one table type serves both
element types; a table must only ever be given arrays of its own.

Contract of every function: callers validate, kernels do not. Sizes are in elements.
"""

cdef enum Activation:
    ACT_IDENTITY = 0
    ACT_RELU
    ACT_LEAKY_RELU
    ACT_SIGMOID
    ACT_TANH
    ACT_ELU
    ACT_SELU
    ACT_GELU
    ACT_GELU_TANH
    ACT_SILU
    ACT_MISH
    ACT_SOFTPLUS
    ACT_SOFTSIGN
    ACT_HARDTANH
    ACT_HARD_SWISH
    ACT_SOFTMAX

cdef enum Loss:
    LOSS_SOFTMAX_CROSS_ENTROPY = 0
    LOSS_BINARY_CROSS_ENTROPY
    LOSS_MSE
    LOSS_MAE
    LOSS_HUBER
    LOSS_POISSON
    LOSS_LOG_COSH
    LOSS_QUANTILE
    LOSS_GAMMA
    LOSS_TWEEDIE
    LOSS_HINGE
    LOSS_SQUARED_HINGE
    LOSS_BINARY_FOCAL
    LOSS_SOFTMAX_FOCAL
    # The cross-entropies with probabilities clipped to [eps, 1 - eps] in the value, not in the
    # gradient: what scikit-learn reports. Targets are 0 or 1; `_engine` only.
    LOSS_SOFTMAX_CLIPPED
    LOSS_BINARY_CLIPPED

cdef enum Optimizer:
    OPT_SGD = 0
    OPT_MOMENTUM
    OPT_NESTEROV
    OPT_RMSPROP
    OPT_ADAM
    OPT_NADAM
    OPT_RADAM
    OPT_ADAGRAD
    OPT_ADADELTA
    OPT_LION

cdef enum MathFunction:
    MATH_EXP = 0
    MATH_TANH
    MATH_ERF
    MATH_SIGMOID
    MATH_SOFTPLUS

# What happens to a block of the product on its way from the registers to memory.
cdef enum Epilogue:
    EPI_NONE = 0
    EPI_RELU      # c = max(c, 0)
    EPI_GATE      # c = c where gate > 0, else 0: the derivative of relu, from its output

ctypedef struct OptimizerSettings:
    double lr            # learning rate
    double l2            # added to the gradient as l2 * w
    double decay         # decoupled: w <- w - lr * decay * w
    double beta1         # momentum, or Adam's first decay rate, or the rho of a mean square
    double beta2
    double eps
    bint eps_hat         # Adam: eps is added to sqrt(v) before its correction
    # For `_engine` only: limits of the gradient (0: none), and what its norm makes its factor
    double clip_value
    double clip_norm
    double gradient_scale
    # What Adam and its kin derive from these and the number of the step: `optimizer_terms`
    double step_scale    # factor of the first moment
    double slope_scale   # Nadam: factor of the gradient
    double root_scale    # factor of the second moment's root
    double root_offset   # added to it

ctypedef struct Product:
    # c (rows, columns) = a (rows, depth) @ b (depth, columns), each operand by its two strides
    Py_ssize_t rows, columns, depth
    const void* a
    Py_ssize_t a_row, a_step
    const void* b
    Py_ssize_t b_step, b_column
    void* c
    Py_ssize_t c_row
    const void* bias     # of `columns` elements, added to every row; or NULL
    int accumulate       # add to what c holds
    int epilogue         # an Epilogue
    const void* gate     # for EPI_GATE
    Py_ssize_t gate_row
    const void* claimed  # laid out as c: what is written to next, its cache lines claimed; or NULL
    void* scratch        # `product_scratch` elements, 64-byte aligned

ctypedef struct SparseRows:
    # Row i is row order[i] of a CSR matrix, or its row i if order is NULL; in every row the
    # indices ascend.
    const long long* indptr
    const int* indices
    const void* values
    const long long* order

ctypedef struct KernelTable:
    Py_ssize_t itemsize
    Py_ssize_t lanes           # elements in a vector register
    double blas_min_work       # multiply-adds from which BLAS beats `product`
    void (*math)(int which, Py_ssize_t n, const void* x, void* out) noexcept nogil
    void (*activation_forward)(
        int kind, Py_ssize_t rows, Py_ssize_t columns, const void* z, void* a) noexcept nogil
    # Only for activations whose derivative needs z: z is replaced by the derivative.
    void (*activation_forward_with_slope)(
        int kind, Py_ssize_t n, void* z, void* a) noexcept nogil
    void (*multiply)(Py_ssize_t n, void* x, const void* y) noexcept nogil
    void (*activation_backward)(
        int kind, Py_ssize_t rows, Py_ssize_t columns,
        const void* da, const void* z, const void* a, void* dz) noexcept nogil
    void (*product)(const Product* p) noexcept nogil
    # Elements of scratch for products of up to so many rows, columns and depth; `across`: of an A
    # whose columns are contiguous
    Py_ssize_t (*product_scratch)(
        Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, bint across) noexcept nogil
    void (*column_sums)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, Py_ssize_t x_row,
        void* out) noexcept nogil
    double (*loss)(
        int kind, Py_ssize_t rows, Py_ssize_t columns, const void* z,
        const int* labels, const void* target, const void* weight,
        double scale, const double* parameters, Py_ssize_t n_parameters,
        void* dz) noexcept nogil
    void (*optimizer)(
        int kind, Py_ssize_t n, void* w, const void* g, void* s1, void* s2,
        const OptimizerSettings* settings) noexcept nogil
    # Fills in the terms that depend on the number of the step, counted from 1
    void (*optimizer_terms)(
        int kind, long long step, OptimizerSettings* settings) noexcept nogil
    void (*dropout)(
        Py_ssize_t n, unsigned int key, unsigned int first, double rate,
        const void* x, void* out) noexcept nogil
    void (*alpha_dropout)(
        Py_ssize_t n, unsigned int key, unsigned int first, double rate, bint backward,
        const void* x, void* out) noexcept nogil
    void (*gaussian_noise)(
        Py_ssize_t n, unsigned long long key, unsigned int first, double deviation,
        const void* x, void* out) noexcept nogil
    # Normalisation and layers with a parameter a column; see `_tiers/normalization.pxi`.
    void (*row_norm_forward)(
        bint centred, Py_ssize_t rows, Py_ssize_t columns, const void* x, double eps,
        const void* gamma, const void* beta, void* kept, void* factor,
        void* out) noexcept nogil
    void (*row_norm_backward)(
        bint centred, Py_ssize_t rows, Py_ssize_t columns, const void* d, const void* gamma,
        const void* kept, const void* factor, void* dx) noexcept nogil
    void (*column_dots)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, const void* y,
        void* out) noexcept nogil
    void (*column_moments)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, void* mean,
        void* squares) noexcept nogil
    void (*column_norm_forward)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, const void* mean,
        const void* variance, double eps, const void* gamma, const void* beta, void* kept,
        void* out) noexcept nogil
    void (*column_norm_backward)(
        Py_ssize_t rows, Py_ssize_t columns, const void* d, const void* kept,
        const void* variance, double eps, const void* gamma, const void* mean,
        const void* dot, void* dx) noexcept nogil
    void (*prelu_forward)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, const void* slope, void* kept,
        void* out) noexcept nogil
    void (*prelu_backward)(
        Py_ssize_t rows, Py_ssize_t columns, const void* d, const void* x, const void* slope,
        void* dx) noexcept nogil
    void (*blend)(
        Py_ssize_t rows, Py_ssize_t columns, const void* x, const void* f, const void* weight,
        void* kept, void* out) noexcept nogil
    void (*add)(Py_ssize_t n, const void* x, const void* y, void* out) noexcept nogil
    int (*all_finite)(Py_ssize_t n, const void* x) noexcept nogil
    double (*sum_squares)(Py_ssize_t n, const void* x) noexcept nogil
    # Around an optimizer's step; see `_tiers/updates.pxi`.
    void (*accumulate)(Py_ssize_t n, void* x, const void* y) noexcept nogil
    # Makes the cache lines of n elements this core's own; nobody else may write to them
    void (*claim)(Py_ssize_t n, const void* x) noexcept nogil
    void (*shape_gradient)(
        Py_ssize_t n, const void* g, const void* w, double scale, double limit, double l1,
        void* out) noexcept nogil
    void (*move_towards)(
        Py_ssize_t n, void* average, const void* w, double amount) noexcept nogil
    void (*limit_columns)(
        Py_ssize_t rows, Py_ssize_t columns, void* w, Py_ssize_t w_row,
        double limit) noexcept nogil
    # Products with a sparse matrix, given by rows; see `_tiers/sparse.pxi`.
    void (*sparse_forward)(
        const SparseRows* x, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t columns,
        const void* w, const void* bias, void* z) noexcept nogil
    void (*sparse_gradient)(
        const SparseRows* x, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t depth,
        Py_ssize_t columns, const void* dz, void* dw) noexcept nogil
    double (*multiply_adds)(Py_ssize_t rounds) noexcept nogil
