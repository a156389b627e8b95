/* exp, expm1, log1p(exp), tanh, sigmoid and erf without branches, so that loops over them become
 * vector code on any compiler. Error at most 4 ULP over the whole range (tests/test_ulp.py holds
 * them to it), saturating, NaN stays NaN.
 *
 * Polynomials are Chebyshev interpolants computed for this file in 40-digit arithmetic.
 */
#ifndef DNNCORE_MATHFUNCS_H
#define DNNCORE_MATHFUNCS_H

#include <math.h>
#include <string.h>

#include "simd.h"

#define R(x) ((dnn_real)(x))

#ifdef DNN_FLOAT64
#define DNN_FABS fabs
#define DNN_COPYSIGN copysign
#define DNN_ROUNDER 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to an integer */
#define DNN_ROUNDER_BITS INT64_C(0x4338000000000000)
#define DNN_MANTISSA_BITS 52
#define DNN_EXPONENT_BIAS 1023
#define DNN_LN2_HIGH 6.93147180369123816490e-01
#define DNN_LN2_LOW 1.90821492927058770002e-10
#define DNN_EXP_LOWEST -746.0
#define DNN_EXP_HIGHEST 710.0
#define DNN_EXPM1_LOWEST -40.0
#define DNN_TANH_SATURATED 20.0
#define DNN_ERF_SATURATED 6.0
#define DNN_RAISE 64
#define DNN_RAISED 18446744073709551616.0 /* 2^DNN_RAISE */
#else
#define DNN_FABS fabsf
#define DNN_COPYSIGN copysignf
#define DNN_ROUNDER 12582912.0f
#define DNN_ROUNDER_BITS INT32_C(0x4B400000)
#define DNN_MANTISSA_BITS 23
#define DNN_EXPONENT_BIAS 127
#define DNN_LN2_HIGH 0.693359375f
#define DNN_LN2_LOW -2.12194440e-4f
#define DNN_EXP_LOWEST -104.0f
#define DNN_EXP_HIGHEST 89.0f
#define DNN_EXPM1_LOWEST -20.0f
#define DNN_TANH_SATURATED 10.0f
#define DNN_ERF_SATURATED 4.0f
#define DNN_RAISE 32
#define DNN_RAISED 4294967296.0
#endif
#define DNN_LOG2E 1.44269504088896340736
#define DNN_LOG_2 0.69314718055994530942
#define DNN_INV_SQRT_2PI 0.39894228040143267794

static inline dnn_int dnn_bits(dnn_real x) {
    dnn_int i;
    memcpy(&i, &x, sizeof i);
    return i;
}

static inline dnn_real dnn_from_bits(dnn_int i) {
    dnn_real x;
    memcpy(&x, &i, sizeof x);
    return x;
}

/* 2^n for n in the range of normal exponents. */
static inline dnn_real dnn_power_of_two(dnn_int n) {
#ifdef DNN_FLOAT64
    return dnn_from_bits((dnn_int)((uint64_t)(n + DNN_EXPONENT_BIAS) << DNN_MANTISSA_BITS));
#else
    return dnn_from_bits((dnn_int)((uint32_t)(n + DNN_EXPONENT_BIAS) << DNN_MANTISSA_BITS));
#endif
}

/* e^r - 1 for |r| <= ln(2)/2, relative error under half a ULP. The polynomial in parts that need not
 * wait for each other: loops over these functions are bound by latency, not by arithmetic. */
static inline dnn_real dnn_expm1_reduced(dnn_real r) {
    dnn_real s = r * r;
#ifdef DNN_FLOAT64
    dnn_real odd = 2.5101346928350340199e-8;
    odd = odd * s + 2.7557266418612303703e-6;
    odd = odd * s + 0.00019841269864380513295;
    odd = odd * s + 0.0083333333333297934996;
    odd = odd * s + 0.16666666666666667534;
    dnn_real p = 2.7621338669142923801e-7;
    p = p * s + 0.000024801518641395993583;
    p = p * s + 0.0013888888918939167785;
    p = p * s + 0.041666666666620638584;
    p = p * s + 0.5;
    p = odd * r + p;
#else
    dnn_real p = 0.0013926926614021906481f * r + 0.0083637738744055734988f;
    p = p * r + 0.041666550110305124444f;
    p = p * s + (0.16666573381900846023f * r + 0.5f);
#endif
    return r + s * p;
}

/* c is n ln 2 + r, n whole and |r| <= ln(2)/2. Returns r, and n + DNN_ROUNDER through `shifted`. */
static inline dnn_real dnn_without_ln2(dnn_real c, dnn_real *shifted) {
    *shifted = c * R(DNN_LOG2E) + DNN_ROUNDER;
    dnn_real n = *shifted - DNN_ROUNDER;
    dnn_real r = c - n * DNN_LN2_HIGH;
    return r - n * DNN_LN2_LOW;
}

static inline dnn_real dnn_exp(dnn_real x) {
    dnn_real c = x < R(DNN_EXP_LOWEST) ? R(DNN_EXP_LOWEST) : x; /* NaN compares false: it stays */
    c = c > R(DNN_EXP_HIGHEST) ? R(DNN_EXP_HIGHEST) : c;
    dnn_real shifted, r = dnn_without_ln2(c, &shifted);
    dnn_real p = dnn_expm1_reduced(r), n = shifted - DNN_ROUNDER;
    /* 2^n in two factors: n itself may lie outside the normal exponents at either end. */
    dnn_int whole = dnn_bits(shifted) - DNN_ROUNDER_BITS;
    dnn_int half = dnn_bits(n * R(0.5) + DNN_ROUNDER) - DNN_ROUNDER_BITS;
    dnn_real s = dnn_power_of_two(half);
    return (p * s + s) * dnn_power_of_two(whole - half);
}

/* 2^DNN_RAISE e^x for x <= 0 and a little above: the power of two stays among the normal exponents, and
 * whoever multiplies anyway takes the rest of it out. */
static inline dnn_real dnn_exp_raised(dnn_real x) {
    dnn_real c = x < R(DNN_EXP_LOWEST) ? R(DNN_EXP_LOWEST) : x;
    dnn_real shifted, r = dnn_without_ln2(c, &shifted);
    dnn_real s = dnn_power_of_two(dnn_bits(shifted) - (DNN_ROUNDER_BITS - DNN_RAISE));
    return dnn_expm1_reduced(r) * s + s;
}

static inline dnn_real dnn_exp_negative(dnn_real x) { /* for x <= 0, with less to do than exp */
    return dnn_exp_raised(x) * R(1 / DNN_RAISED);
}

static inline dnn_real dnn_expm1(dnn_real x) { /* for x up to 2^6: above it plain exp will do */
    dnn_real c = x < R(DNN_EXPM1_LOWEST) ? R(DNN_EXPM1_LOWEST) : x;
    dnn_real shifted, r = dnn_without_ln2(c, &shifted);
    dnn_real p = dnn_expm1_reduced(r);
    dnn_real s = dnn_power_of_two(dnn_bits(shifted) - DNN_ROUNDER_BITS);
    return p * s + (s - R(1));
}

/* tanh x = (e^2x - 1) / (e^2x + 1), odd: computed for |x|, then the sign put back. Here n ln 2 needs
 * no second part: its rounding is less than that of x, and tanh does not enlarge it. */
static inline dnn_real dnn_tanh(dnn_real x) {
    dnn_real t = DNN_FABS(x);
    t = t > R(DNN_TANH_SATURATED) ? R(DNN_TANH_SATURATED) : t;
    dnn_real shifted = t * R(2 * DNN_LOG2E) + DNN_ROUNDER;
    dnn_real n = shifted - DNN_ROUNDER;
    dnn_real p = dnn_expm1_reduced(R(2) * t - n * R(DNN_LOG_2));
    dnn_real s = dnn_power_of_two(dnn_bits(shifted) - DNN_ROUNDER_BITS);
    dnn_real e = p * s + (s - R(1));
    return DNN_COPYSIGN(e / (e + R(2)), x);
}

static inline dnn_real dnn_sigmoid(dnn_real x) {
    dnn_real e = dnn_exp_negative(-DNN_FABS(x));
    dnn_real s = R(1) / (R(1) + e);
    return x < R(0) ? e * s : s;
}

/* log(1 + e) for 0 <= e <= 1, as 2 artanh(d / 2) with d = 2 e / (2 + e): a series in d^2 / 4,
 * at most 1/9. Halving e itself would lose the last bit of a subnormal. */
static inline dnn_real dnn_log1p_unit(dnn_real e) {
    dnn_real d = e / (R(1) + R(0.5) * e), t = R(0.25) * d * d;
#ifdef DNN_FLOAT64
    dnn_real p = 1.0 / 35;
    p = p * t + 1.0 / 33;
    p = p * t + 1.0 / 31;
    p = p * t + 1.0 / 29;
    p = p * t + 1.0 / 27;
    p = p * t + 1.0 / 25;
    p = p * t + 1.0 / 23;
    p = p * t + 1.0 / 21;
    p = p * t + 1.0 / 19;
    p = p * t + 1.0 / 17;
    p = p * t + R(1.0 / 15);
#else
    dnn_real p = R(1.0 / 15);
#endif
    p = p * t + R(1.0 / 13);
    p = p * t + R(1.0 / 11);
    p = p * t + R(1.0 / 9);
    p = p * t + R(1.0 / 7);
    p = p * t + R(1.0 / 5);
    p = p * t + R(1.0 / 3);
    return d + d * t * p;
}

/* log x for normal x > 0: the exponent, and the series above for the mantissa, between 3/4 and
 * 3/2 so that nothing cancels near 1. */
static inline dnn_real dnn_log(dnn_real x) {
    dnn_int bits = dnn_bits(x);
    dnn_int n = (bits >> DNN_MANTISSA_BITS) - DNN_EXPONENT_BIAS;
#ifdef DNN_FLOAT64
    dnn_real m = dnn_from_bits((bits & INT64_C(0xFFFFFFFFFFFFF)) | INT64_C(0x3FF0000000000000));
#else
    dnn_real m = dnn_from_bits((bits & INT32_C(0x7FFFFF)) | INT32_C(0x3F800000));
#endif
    dnn_real whole = (dnn_real)n + (m > R(1.5) ? R(1) : R(0));
    m = m > R(1.5) ? m * R(0.5) : m;
    return whole * DNN_LN2_HIGH + (dnn_log1p_unit(m - R(1)) + whole * DNN_LN2_LOW);
}

/* cos(2 pi t) for |t| <= 1/2, as sin(2 pi (1/4 - |t|)): the Taylor series, whose first term left
 * out is below a ULP of 1. */
static inline dnn_real dnn_cos_turns(dnn_real t) {
    dnn_real s = R(0.25) - DNN_FABS(t), q = s * s;
#ifdef DNN_FLOAT64
    dnn_real p = 0.0011309237482517961878;
    p = p * q - 0.012031585942120627233;
    p = p * q + 0.10422916220813984117;
    p = p * q - 0.71812230177850051223;
    p = p * q + 3.8199525848482821277;
    p = p * q - 15.094642576822990392;
    p = p * q + 42.058693944897653145;
    p = p * q - 76.705859753061385842;
    p = p * q + 81.605249276075054203;
    p = p * q - 41.341702240399760234;
    p = p * q + 6.2831853071795864769;
#else
    dnn_real p = 3.8199525848482821277f;
    p = p * q - 15.094642576822990392f;
    p = p * q + 42.058693944897653145f;
    p = p * q - 76.705859753061385842f;
    p = p * q + 81.605249276075054203f;
    p = p * q - 41.341702240399760234f;
    p = p * q + 6.2831853071795864769f;
#endif
    return s * p;
}

/* log(1 + e^x) */
static inline dnn_real dnn_softplus(dnn_real x) {
    return (x < R(0) ? R(0) : x) + dnn_log1p_unit(dnn_exp_negative(-DNN_FABS(x)));
}

/* |x| < 1: x + x p(x^2). Beyond: 1 - exp(-(x^2 + l)), l a polynomial for -log(erfc |x|) - x^2,
 * which stays near 1 or 2: a polynomial for the whole exponent would cancel 4 bits near 1. */
static inline dnn_real dnn_erf(dnn_real x) {
    dnn_real t = DNN_FABS(x), s = x * x;
    dnn_real c = t > R(DNN_ERF_SATURATED) ? R(DNN_ERF_SATURATED) : t;
#ifdef DNN_FLOAT64
    dnn_real u = c * 0.4 - 1.4; /* [1, 6] onto [-1, 1] */
    dnn_real p = -7.7958988270021422416e-10;
    p = p * s + 1.3720064546777685604e-8;
    p = p * s - 1.6208483801871705902e-7;
    p = p * s + 1.644742470331736241e-6;
    p = p * s - 0.000014924736907419660338;
    p = p * s + 0.00012055294904839707917;
    p = p * s - 0.00085483259753896920806;
    p = p * s + 0.0052239776071164227321;
    p = p * s - 0.02686617064323777036;
    p = p * s + 0.11283791670945006266;
    p = p * s - 0.37612638903183540438;
    p = p * s + 0.12837916709551256654;
    dnn_real l = -2.247276352107438669e-9;
    l = l * u + 7.240824974515327322e-9;
    l = l * u - 4.5214162045836511198e-9;
    l = l * u - 4.7108405270992656958e-9;
    l = l * u + 2.1580142736303588002e-9;
    l = l * u - 1.8848830089033836661e-8;
    l = l * u + 1.2999681259733388004e-7;
    l = l * u - 3.9189232885279241129e-7;
    l = l * u + 9.1655075925352763997e-7;
    l = l * u - 1.9126979860773402546e-6;
    l = l * u + 3.4204246659666945141e-6;
    l = l * u - 4.5683976219076298046e-6;
    l = l * u + 1.4780737118311841926e-6;
    l = l * u + 0.000018475289860008107424;
    l = l * u - 0.000090901015515971753925;
    l = l * u + 0.00030781940159072446439;
    l = l * u - 0.0008935765716880318809;
    l = l * u + 0.002373997300679498781;
    l = l * u - 0.0059537044771415839846;
    l = l * u + 0.014384548328888421697;
    l = l * u - 0.034128411079719676415;
    l = l * u + 0.081650909717857197094;
    l = l * u - 0.2077934078610615692;
    l = l * u + 0.665248970912976683;
    l = l * u + 1.862437402148173755;
#else
    dnn_real u = c * R(2.0 / 3) - R(5.0 / 3); /* [1, 4] onto [-1, 1] */
    dnn_real p = 0.000078758750626854883411f;
    p = p * s - 0.00080168642871658695293f;
    p = p * s + 0.0051890874234339739861f;
    p = p * s - 0.026854212010626412443f;
    p = p * s + 0.11283594715160217732f;
    p = p * s - 0.37612626666720331023f;
    p = p * s + 0.12837916584835094603f;
    dnn_real l = -0.000041958400121675372772f;
    l = l * u + 0.0002274995038041568569f;
    l = l * u - 0.0008803970815024042964f;
    l = l * u + 0.003190305413141666808f;
    l = l * u - 0.010961849217635255949f;
    l = l * u + 0.036647578044776784008f;
    l = l * u - 0.1262391668760358769f;
    l = l * u + 0.5290210113367307628f;
    l = l * u + 1.5568152727272643589f;
#endif
    dnn_real small = x + x * p;
    dnn_real large = DNN_COPYSIGN(R(1) - dnn_exp_negative(-(c * c + l)), x);
    return t < R(1) ? small : large;
}

/* Of the standard normal distribution the part beyond |z|, erfc(|z| / sqrt 2) / 2, and its density at z:
 * the two have exp(-z^2 / 2) in common. What is left changes slowly with 1 / (1 + |z| / 4), to which it
 * is proportional in the end; y is that, lowered as much as the exponential is raised. */
static inline dnn_real dnn_normal_tail(dnn_real z, dnn_real *density) {
    dnn_real y = R(1 / DNN_RAISED) / (R(1) + R(0.25) * DNN_FABS(z));
#ifdef DNN_FLOAT64
    /* [0, 39] onto [1, -1] */
    dnn_real u = y * (DNN_RAISED * 2.2051282051282051282) - 1.2051282051282051282;
    dnn_real s = u * u;
    dnn_real odd = -6.5894407028102605975e-11;
    odd = odd * s + 3.9099468309886150277e-10;
    odd = odd * s + 8.2557648988569746151e-10;
    odd = odd * s - 2.8822572666210774986e-8;
    odd = odd * s + 3.034948639994133314e-7;
    odd = odd * s - 2.6159834504706761057e-6;
    odd = odd * s + 0.000022117544798166775042;
    odd = odd * s - 0.00018435522298914870253;
    odd = odd * s + 0.00081471154751153438653;
    odd = odd * s + 0.039092488866985873571;
    odd = odd * s + 0.1553110255561813413;
    dnn_real q = -2.8166753052817972524e-11;
    q = q * s + 4.2040547314093774538e-10;
    q = q * s - 3.4435554861217764401e-9;
    q = q * s + 2.097400657448292103e-8;
    q = q * s - 1.0884929970258216424e-7;
    q = q * s + 5.4600468184499692693e-7;
    q = q * s - 3.4055732639654552656e-6;
    q = q * s + 0.000036802015747137662485;
    q = q * s - 0.00062536476418488521278;
    q = q * s + 0.010726581694235498642;
    q = q * s + 0.090976684206759636535;
    q = q * s + 0.20383459921062922711;
#else
    /* [0, 14.5] onto [1, -1] */
    dnn_real u = y * R(DNN_RAISED * 2.5517241379310344828) - 1.5517241379310344828f;
    dnn_real s = u * u;
    dnn_real odd = 3.4320381792014817e-6f;
    odd = odd * s - 4.6579962412716331e-5f;
    odd = odd * s + 0.0001153255697155837f;
    odd = odd * s + 0.029065152961252153f;
    odd = odd * s + 0.15753664910292846f;
    dnn_real q = 1.5456829656729768e-5f;
    q = q * s - 0.00032105206600820262f;
    q = q * s + 0.0061848799900988129f;
    q = q * s + 0.080736431806542707f;
    q = q * s + 0.22671030629078753f;
#endif
    dnn_real e = dnn_exp_raised(R(-0.5) * z * z);
    *density = e * R(DNN_INV_SQRT_2PI / DNN_RAISED);
    return e * y * (odd * u + q);
}

#undef R
#endif
