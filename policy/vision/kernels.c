#include "kernels.h"

#include <string.h>

// No fused multiply-add: results are to be the same on every machine.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

// The same C, compiled a second time for wider registers and chosen at load.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));
typedef float float8 __attribute__((vector_size(32)));

static inline float4 load4(const float *p) {
    float4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

WIDE static void widen(const uint8_t *src, int n, float scale, float *out) {
    for (int i = 0; i < n; i++) out[i] = (float)src[i] * scale;
}

// Sums of BLOCK neighbours stay in registers over all taps.
#define BLOCK 32

// The rows lie in a ring of slots, the first in the given one.
WIDE static void sum_rows(const float *ring, int slots, int slot, int n, const float *weight, int count, float *out) {
    for (int i = 0; i < n; i += BLOCK) {
        float8 sum[BLOCK / 8] = {0};
        const float *p = ring + (size_t)slot * n + i;
        for (int k = 0, s = slot; k < count; k++) {
            for (int j = 0; j < BLOCK / 8; j++) {
                float8 v;
                memcpy(&v, p + 8 * j, sizeof v);
                sum[j] += weight[k] * v;
            }
            p += n;
            if (++s == slots) s = 0, p = ring + i;
        }
        memcpy(out + i, sum, sizeof sum);
    }
}

// Rounds half to even: the addition of 2^23 leaves no room for a fraction.
static inline void store_rounded(float4 sum, uint8_t *dst) {
    for (int c = 0; c < 3; c++) {
        float v = sum[c];
        v = v > 0 ? v : 0;
        v = v < 255 ? v : 255;
        v += 8388608.0f;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        dst[c] = (uint8_t)bits;
    }
}

// A vector is a pixel; the fourth lane is the next one's red, summed and dropped.
// Pixels go in pairs, as one sum waits for its own last addition.
WIDE static void sum_columns(const float *line, int out_width, const int32_t *start, const int32_t *count,
                             const float *weight, int span, uint8_t *dst) {
    for (int x = 0; x < out_width; x += 2) {
        const int pair = x + 1 < out_width; // the last one may be alone
        const int n = count[x], m = pair ? count[x + 1] : 0, both = n < m ? n : m;
        const float *p = line + 3 * start[x], *q = line + 3 * start[x + pair];
        const float *w = weight + (size_t)x * span, *v = weight + (size_t)(x + pair) * span;
        float4 sum = {0}, next = {0};
        int k = 0;
        for (; k < both; k++) {
            sum += w[k] * load4(p + 3 * k);
            next += v[k] * load4(q + 3 * k);
        }
        for (int i = k; i < n; i++) sum += w[i] * load4(p + 3 * i);
        for (int i = k; i < m; i++) next += v[i] * load4(q + 3 * i);
        store_rounded(sum, dst + 3 * x);
        if (pair) store_rounded(next, dst + 3 * x + 3);
    }
}

void ddvla_resize_float(const uint8_t *src, int width,
                        int out_width, const int32_t *x_start, const int32_t *x_count, const float *x_weight, int x_span,
                        int out_height, const int32_t *y_start, const int32_t *y_count, const float *y_weight, int y_span,
                        float *lines, uint8_t *dst) {
    const int n = 3 * width, padded = DDVLA_PADDED(n);
    float *line = lines, *ring = lines + padded;
    for (int y = 0, ready = 0; y < out_height; y++) {
        for (; ready < y_start[y] + y_count[y]; ready++) {
            widen(src + (size_t)ready * n, n, 1, ring + (size_t)(ready % y_span) * padded);
        }
        sum_rows(ring, y_span, y_start[y] % y_span, padded, y_weight + (size_t)y * y_span, y_count[y], line);
        sum_columns(line, out_width, x_start, x_count, x_weight, x_span, dst + (size_t)y * 3 * out_width);
    }
}

static inline uint8_t clip8(int32_t v) {
    v >>= 22;
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

#define HALF (1 << 21)

WIDE void ddvla_columns_fixed(const uint8_t *src, int width, int height,
                              int out_width, const int32_t *start, const int32_t *count, const int32_t *weight, int span,
                              uint8_t *dst) {
    for (int y = 0; y < height; y++, src += 3 * (size_t)width) {
        for (int x = 0; x < out_width; x++, dst += 3) {
            const uint8_t *p = src + 3 * start[x];
            const int32_t *w = weight + (size_t)x * span;
            const int n = count[x];
            int4 sum = {HALF, HALF, HALF, 0};
            for (int k = 0; k < n; k++, p += 3) sum += w[k] * (int4){p[0], p[1], p[2], 0};
            dst[0] = clip8(sum[0]);
            dst[1] = clip8(sum[1]);
            dst[2] = clip8(sum[2]);
        }
    }
}

WIDE void ddvla_rows_fixed(const uint8_t *src, int n,
                           int out_height, const int32_t *start, const int32_t *count, const int32_t *weight, int span,
                           uint8_t *dst) {
    for (int y = 0; y < out_height; y++, dst += n) {
        const uint8_t *first = src + (size_t)start[y] * n;
        const int32_t *w = weight + (size_t)y * span;
        const int taps = count[y];
        int i = 0;
        for (; i + BLOCK <= n; i += BLOCK) {
            int32_t sum[BLOCK];
            for (int j = 0; j < BLOCK; j++) sum[j] = HALF;
            const uint8_t *p = first + i;
            for (int k = 0; k < taps; k++, p += n)
                for (int j = 0; j < BLOCK; j++) sum[j] += w[k] * p[j];
            for (int j = 0; j < BLOCK; j++) dst[i + j] = clip8(sum[j]);
        }
        for (; i < n; i++) {
            int32_t sum = HALF;
            for (int k = 0; k < taps; k++) sum += w[k] * first[(size_t)k * n + i];
            dst[i] = clip8(sum);
        }
    }
}

// As in sum_columns, the fourth lane is the neighbour's and is written over.
WIDE static void blend_columns(const float *row, int out_width, const int32_t *low, const int32_t *high,
                               const float *share, float *out) {
    for (int x = 0; x < out_width; x++) {
        const float4 left = load4(row + 3 * low[x]), right = load4(row + 3 * high[x]);
        const float4 v = left + (right - left) * share[x];
        memcpy(out + 3 * x, &v, sizeof v);
    }
}

WIDE static void blend_rows(const float *top, const float *bottom, float share, int n, uint8_t *dst) {
    for (int i = 0; i < n; i++) {
        float v = top[i] + (bottom[i] - top[i]) * share;
        v = v > 0 ? v : 0;
        v = v < 1 ? v : 1;
        dst[i] = (uint8_t)(int32_t)(v * 255.5f);
    }
}

void ddvla_bilinear(const uint8_t *src, int width,
                    int out_width, const int32_t *x_low, const int32_t *x_high, const float *x_share,
                    int out_height, const int32_t *y_low, const int32_t *y_high, const float *y_share,
                    float *lines, uint8_t *dst) {
    const int n = 3 * out_width, padded = DDVLA_PADDED(n);
    float *line[2] = {lines, lines + padded}, *row = lines + 2 * padded;
    int32_t held[2] = {-1, -1}; // source rows the lines were made from
    for (int y = 0; y < out_height; y++, dst += n) {
        if (held[1] == y_low[y]) { // the last bottom row is mostly the next top row
            float *l = line[0];
            line[0] = line[1], line[1] = l;
            held[1] = held[0], held[0] = y_low[y];
        }
        const int32_t want[2] = {y_low[y], y_high[y]};
        for (int i = 0; i < 2; i++) {
            if (held[i] == want[i]) continue;
            widen(src + (size_t)want[i] * 3 * width, 3 * width, 1.0f / 255.0f, row);
            blend_columns(row, out_width, x_low, x_high, x_share, line[i]);
            held[i] = want[i];
        }
        blend_rows(line[0], line[1], y_share[y], n, dst);
    }
}
