/* Sums and AdaGrad updates of sparse rows: the two inner loops of fitting the fast tier. */
#ifndef CLASSMARK_FIT_H
#define CLASSMARK_FIT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROWS_AHEAD 8
#define MAX_DIM 1024
#define LANES 16               /* a row is a multiple of it */
#define STEP_PER_DEVIATION .9957f /* training/rows.py has the same, and the source */

typedef struct {
    const int32_t *columns; /* feature of each entry */
    const float *values;
    const int64_t *starts; /* [n_papers + 1] */
    const int64_t *papers; /* [n_batch] */
    int64_t n_batch, dim;
} Batch;

#if defined(__GNUC__) || defined(__clang__)
#define FETCH_ROW(p) __builtin_prefetch(p)
#define FIT_INLINE static inline __attribute__((always_inline))
#else
#define FETCH_ROW(p) ((void)0)
#define FIT_INLINE static inline
#endif

FIT_INLINE void fetch_row(const float *row, int64_t dim) {
    for (int64_t j = 0; j < dim; j += 16) FETCH_ROW(row + j);
}

/* The row that two bits can hold: +-1 or +-3 half steps. */
FIT_INLINE void round_row(const float *row, int64_t dim, float *rounded) {
    float squares[LANES] = {0}, square = 0;
    for (int64_t j = 0; j < dim; j += LANES)
        for (int l = 0; l < LANES; l++) squares[l] += row[j + l] * row[j + l];
    for (int l = 0; l < LANES; l++) square += squares[l];
    float step = sqrtf(square / (float)dim) * STEP_PER_DEVIATION;
    float near = .5f * step, far = 1.5f * step;
    for (int64_t j = 0; j < dim; j++) {
        float size = fabsf(row[j]) >= step ? far : near;
        rounded[j] = row[j] < 0 ? -size : size;
    }
}

/* sums[b] = sum of value * embedding over the entries of paper b; rows are rounded first if asked */
FIT_INLINE void sum_rows_body(const Batch *x, const float *embedding, float *sums, int rounds) {
    float rounded[MAX_DIM];
    for (int64_t b = 0; b < x->n_batch; b++) {
        float *sum = sums + b * x->dim;
        int64_t end = x->starts[x->papers[b] + 1];
        memset(sum, 0, x->dim * sizeof(float));
        for (int64_t i = x->starts[x->papers[b]]; i < end; i++) {
            if (i + ROWS_AHEAD < end)
                fetch_row(embedding + x->columns[i + ROWS_AHEAD] * x->dim, x->dim);
            const float *row = embedding + x->columns[i] * x->dim;
            if (rounds) {
                round_row(row, x->dim, rounded);
                row = rounded;
            }
            for (int64_t j = 0; j < x->dim; j++) sum[j] += x->values[i] * row[j];
        }
    }
}

/* One row-wise AdaGrad step per entry, for the features of one part (column mod parts), so that
   threads never share a row and the result does not depend on how many there are. A row shrinks by
   decay times its step: one that few papers taught has large steps, and keeps little. */
FIT_INLINE void update_rows_body(const Batch *x, float *embedding, float *squares,
                                 const float *gradients, float rate, float decay, int64_t part,
                                 int64_t parts) {
    for (int64_t b = 0; b < x->n_batch; b++) {
        const float *gradient = gradients + b * x->dim;
        float mean_square = 0;
        for (int64_t j = 0; j < x->dim; j++) mean_square += gradient[j] * gradient[j];
        mean_square /= (float)x->dim;
        int64_t end = x->starts[x->papers[b] + 1];
        for (int64_t i = x->starts[x->papers[b]]; i < end; i++) {
            if (i + ROWS_AHEAD < end && x->columns[i + ROWS_AHEAD] % parts == part)
                fetch_row(embedding + x->columns[i + ROWS_AHEAD] * x->dim, x->dim);
            if (x->columns[i] % parts != part) continue;
            float value = x->values[i];
            float total = squares[x->columns[i]] += value * value * mean_square;
            float rate_of_row = rate / sqrtf(total + 1e-12f), step = rate_of_row * value;
            float kept = 1 - decay * rate_of_row;
            kept = kept > 0 ? kept : 0;
            float *row = embedding + x->columns[i] * x->dim;
            for (int64_t j = 0; j < x->dim; j++) row[j] = kept * row[j] - step * gradient[j];
        }
    }
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void sum_rows_avx2(const Batch *x, const float *e,
                                                              float *sums, int rounds) {
    sum_rows_body(x, e, sums, rounds);
}
__attribute__((target("avx2,fma"))) static void update_rows_avx2(const Batch *x, float *e,
                                                                 float *squares, const float *g,
                                                                 float rate, float decay,
                                                                 int64_t part, int64_t parts) {
    update_rows_body(x, e, squares, g, rate, decay, part, parts);
}
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
#define sum_rows_avx2 sum_rows_body
#define update_rows_avx2 update_rows_body
static int has_avx2(void) { return 0; }
#endif

static void sum_rows(const Batch *x, const float *embedding, float *sums, int rounds) {
    if (has_avx2())
        sum_rows_avx2(x, embedding, sums, rounds);
    else
        sum_rows_body(x, embedding, sums, rounds);
}

static void update_rows(const Batch *x, float *embedding, float *squares, const float *gradients,
                        float rate, float decay, int64_t part, int64_t parts) {
    if (has_avx2())
        update_rows_avx2(x, embedding, squares, gradients, rate, decay, part, parts);
    else
        update_rows_body(x, embedding, squares, gradients, rate, decay, part, parts);
}

#endif
