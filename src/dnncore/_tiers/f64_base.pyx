# float64 loops for the processor family's baseline.
include "tier.pxi"
