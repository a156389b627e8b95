# float64 loops for x86-64-v3 (AVX2, FMA).
include "tier.pxi"
