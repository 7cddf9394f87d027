/* Sums and AdaGrad updates of sparse rows: the two inner loops of fitting the fast tier. */
#ifndef CLASSMARK_FIT_H
#define CLASSMARK_FIT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROWS_AHEAD 8

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

/* sums[b] = sum of value * embedding over the entries of paper b */
FIT_INLINE void sum_rows_body(const Batch *x, const float *embedding, float *sums) {
    for (int64_t b = 0; b < x->n_batch; b++) {
        float *sum = sums + b * x->dim;
        int64_t end = x->starts[x->papers[b] + 1];
        memset(sum, 0, x->dim * sizeof(float));
        for (int64_t i = x->starts[x->papers[b]]; i < end; i++) {
            if (i + ROWS_AHEAD < end)
                fetch_row(embedding + x->columns[i + ROWS_AHEAD] * x->dim, x->dim);
            const float *row = embedding + x->columns[i] * x->dim;
            for (int64_t j = 0; j < x->dim; j++) sum[j] += x->values[i] * row[j];
        }
    }
}

/* One row-wise AdaGrad step per entry, for the features of one part (column mod parts), so that
   threads never share a row and the result does not depend on how many there are. */
FIT_INLINE void update_rows_body(const Batch *x, float *embedding, float *squares,
                                 const float *gradients, float rate, int64_t part, int64_t parts) {
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
            float step = rate * value / sqrtf(total + 1e-12f);
            float *row = embedding + x->columns[i] * x->dim;
            for (int64_t j = 0; j < x->dim; j++) row[j] -= step * gradient[j];
        }
    }
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void sum_rows_avx2(const Batch *x, const float *e,
                                                              float *sums) {
    sum_rows_body(x, e, sums);
}
__attribute__((target("avx2,fma"))) static void update_rows_avx2(const Batch *x, float *e,
                                                                 float *squares, const float *g,
                                                                 float rate, int64_t part,
                                                                 int64_t parts) {
    update_rows_body(x, e, squares, g, rate, part, parts);
}
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
#define sum_rows_avx2 sum_rows_body
#define update_rows_avx2 update_rows_body
static int has_avx2(void) { return 0; }
#endif

static void sum_rows(const Batch *x, const float *embedding, float *sums) {
    if (has_avx2())
        sum_rows_avx2(x, embedding, sums);
    else
        sum_rows_body(x, embedding, sums);
}

static void update_rows(const Batch *x, float *embedding, float *squares, const float *gradients,
                        float rate, int64_t part, int64_t parts) {
    if (has_avx2())
        update_rows_avx2(x, embedding, squares, gradients, rate, part, parts);
    else
        update_rows_body(x, embedding, squares, gradients, rate, part, parts);
}

#endif
