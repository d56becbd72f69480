// Inner loops of the image recipe; the Go files beside this one own the buffers
// and the weight tables and explain the formulas.
#ifndef DDVLA_VISION_KERNELS_H
#define DDVLA_VISION_KERNELS_H

#include <stdint.h>

// The floats that a line of n takes: vectors may run over its end.
#define DDVLA_PADDED(n) (((n) + 4 + 31) / 32 * 32)

// Weights of one axis: output i is the sum over k < count[i] of
// weight[i*span + k] * input[start[i] + k].
//
// ddvla_resize_float resamples packed RGB in float32, rows first, and rounds
// half to even. lines holds 1 + y_span padded lines of 3*width floats.
void ddvla_resize_float(const uint8_t *src, int width,
                        int out_width, const int32_t *x_start, const int32_t *x_count, const float *x_weight, int x_span,
                        int out_height, const int32_t *y_start, const int32_t *y_count, const float *y_weight, int y_span,
                        float *lines, uint8_t *dst);

// ddvla_columns_fixed and ddvla_rows_fixed are the two 8-bit passes of
// fixed-point resampling, weights scaled by 1 << 22. The column pass changes the
// width of height rows, the row pass the height of rows of n bytes.
void ddvla_columns_fixed(const uint8_t *src, int width, int height,
                         int out_width, const int32_t *start, const int32_t *count, const int32_t *weight, int span,
                         uint8_t *dst);
void ddvla_rows_fixed(const uint8_t *src, int n,
                      int out_height, const int32_t *start, const int32_t *count, const int32_t *weight, int span,
                      uint8_t *dst);

// ddvla_bilinear samples packed RGB at the given positions (low and high source
// index and the share of the high one), in [0, 1] float32, and truncates
// value * 255.5. lines holds two padded lines of 3*out_width floats and one of
// 3*width.
void ddvla_bilinear(const uint8_t *src, int width,
                    int out_width, const int32_t *x_low, const int32_t *x_high, const float *x_share,
                    int out_height, const int32_t *y_low, const int32_t *y_high, const float *y_share,
                    float *lines, uint8_t *dst);

#endif
