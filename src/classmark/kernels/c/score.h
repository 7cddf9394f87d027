/* Text to logits in integers, so that every platform and the numpy path give the same bits. */
#ifndef CLASSMARK_SCORE_H
#define CLASSMARK_SCORE_H

#include "text.h"
#include <math.h>

#define DIM 128
#define ROW_BYTES (DIM / 4)
#define MOST_HALF_STEPS 3
#define MAX_COUNT 16
#define SLOT_FACTOR 0x9E3779B97F4A7C15ULL

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(p) __builtin_prefetch(p)
#define INLINE static inline __attribute__((always_inline))
#else
#define PREFETCH(p) ((void)0)
#define INLINE static inline
#endif
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define HAVE_AVX2_VARIANT 1
#endif

typedef struct {
    const uint16_t *displacements;
    const uint16_t *fingerprints;
    const uint8_t *rows;        /* [n_slots, 32]: dim 4 j + i of a row in bits 2 i of byte j */
    const uint8_t *scale_codes; /* [n_slots] */
    const int16_t *weights;     /* [MAX_COUNT, 256]: multiplier of a count and a scale code */
    const int32_t *norms;       /* [MAX_COUNT]: squared weight of a count */
    const int16_t *head;        /* [k, DIM] */
    const double *constants;    /* hidden_scale, logit_scale */
    const double *bias;         /* [k] */
    uint64_t n_buckets, n_slots;
    int64_t k;
} Model;

typedef struct {
    uint64_t *keys;
    uint8_t *is_word;
    uint32_t *slots;
    uint16_t *counts;
    uint32_t *table; /* open addressing: index into slots + 1 */
    int64_t capacity;
    uint64_t table_mask;
} Workspace;

static void free_workspace(Workspace *w) {
    free(w->keys), free(w->is_word), free(w->slots), free(w->counts), free(w->table);
}

static int make_workspace(Workspace *w, int64_t longest_bytes) {
    memset(w, 0, sizeof *w);
    w->capacity = most_keys(longest_bytes) + 4;
    w->table_mask = 1023;
    while (w->table_mask + 1 < (uint64_t)w->capacity) w->table_mask = w->table_mask * 2 + 1;
    w->keys = malloc(w->capacity * sizeof(uint64_t));
    w->is_word = malloc(w->capacity);
    w->slots = malloc(w->capacity * sizeof(uint32_t));
    w->counts = malloc(w->capacity * sizeof(uint16_t));
    w->table = calloc(w->table_mask + 1, sizeof(uint32_t));
    return w->keys && w->is_word && w->slots && w->counts && w->table;
}

INLINE uint32_t slot_among(const uint16_t *displacements, uint64_t n_buckets, uint64_t n_slots,
                           uint64_t key) {
    uint64_t bucket = ((key >> 32) * n_buckets) >> 32;
    uint64_t g = key * SLOT_FACTOR;
    uint32_t place = (uint32_t)(g >> 32) + displacements[bucket] * ((uint32_t)g | 1u);
    return (uint32_t)(((uint64_t)place * n_slots) >> 32);
}

INLINE uint32_t slot_of(const Model *m, uint64_t key) {
    return slot_among(m->displacements, m->n_buckets, m->n_slots, key);
}

INLINE uint16_t fingerprint_of(uint64_t key) { return (uint16_t)key ? (uint16_t)key : 1; }

/* Known features of one text with their counts; returns how many, sets the share of known words. */
INLINE int64_t known_features(const Model *m, Workspace *w, const uint8_t *text, int64_t n,
                              float *known_share) {
    int64_t words, known_words = 0, n_slots = 0;
    int64_t n_keys = text_keys(text, n, w->keys, w->is_word, &words);
    for (int64_t i = 0; i < n_keys; i++)
        PREFETCH(m->displacements + (((w->keys[i] >> 32) * m->n_buckets) >> 32));
    for (int64_t i = 0; i < n_keys; i++) {
        w->slots[i] = slot_of(m, w->keys[i]);
        PREFETCH(m->fingerprints + w->slots[i]);
    }
    uint64_t mask = 255;
    while (mask < (uint64_t)n_keys * 2 && mask < w->table_mask) mask = mask * 2 + 1;
    memset(w->table, 0, (mask + 1) * sizeof(uint32_t));
    for (int64_t i = 0; i < n_keys; i++) {
        uint32_t slot = w->slots[i];
        if (m->fingerprints[slot] != fingerprint_of(w->keys[i])) continue;
        known_words += w->is_word[i];
        uint64_t at = (slot * 0x9E3779B1u >> 8) & mask;
        while (w->table[at] && w->slots[w->table[at] - 1] != slot) at = (at + 1) & mask;
        if (w->table[at]) {
            uint16_t *count = w->counts + w->table[at] - 1;
            *count += *count < MAX_COUNT;
            continue;
        }
        w->slots[n_slots] = slot;
        w->counts[n_slots++] = 1;
        w->table[at] = (uint32_t)n_slots;
        PREFETCH(m->rows + (int64_t)slot * ROW_BYTES);
        PREFETCH(m->scale_codes + slot);
    }
    *known_share = words ? (float)((double)known_words / (double)words) : 0.0f;
    return n_slots;
}

INLINE void score_text_body(const Model *m, Workspace *w, const uint8_t *text, int64_t n,
                            float *scores, float *known_share) {
    int32_t sums[DIM] = {0};
    int64_t n_slots = known_features(m, w, text, n, known_share), norm = 0, total = 0;
    int64_t hidden_sum[DIM] = {0};
    for (int64_t i = 0; i < n_slots; i++) {
        const uint8_t *row = m->rows + (int64_t)w->slots[i] * ROW_BYTES;
        int16_t weight = m->weights[(w->counts[i] - 1) * 256 + m->scale_codes[w->slots[i]]];
        norm += m->norms[w->counts[i] - 1];
        total += weight;
        for (int part = 0; part < 4; part++)
            for (int j = 0; j < ROW_BYTES; j++)
                sums[part * ROW_BYTES + j] += (int16_t)(weight * (row[j] >> (2 * part) & 3));
        if ((i & 32767) == 32767 || i == n_slots - 1) /* before 32 bits can overflow */
            for (int j = 0; j < DIM; j++) hidden_sum[j] += sums[j], sums[j] = 0;
    }
    int16_t hidden[DIM];
    double scale = norm ? m->constants[0] / sqrt((double)norm) : 0.0;
    for (int j = 0; j < DIM; j++) { /* sums stand by their place in a byte, then by byte */
        int64_t half_steps = 2 * hidden_sum[j] - MOST_HALF_STEPS * total;
        double value = (double)half_steps * scale;
        value = value > 8191.0 ? 8191.0 : value < -8191.0 ? -8191.0 : value;
        hidden[j % ROW_BYTES * 4 + j / ROW_BYTES] = (int16_t)nearbyint(value);
    }
    for (int64_t c = 0; c < m->k; c++) {
        const int16_t *head = m->head + c * DIM;
        int32_t sum = 0;
        for (int j = 0; j < DIM; j++) sum += (int32_t)hidden[j] * head[j];
        scores[c] = (float)((double)sum * m->constants[1] + m->bias[c]);
    }
}

static void score_text_portable(const Model *m, Workspace *w, const uint8_t *text, int64_t n,
                                float *scores, float *known_share) {
    score_text_body(m, w, text, n, scores, known_share);
}

#ifdef HAVE_AVX2_VARIANT
__attribute__((target("avx2"))) static void score_text_avx2(const Model *m, Workspace *w,
                                                            const uint8_t *text, int64_t n,
                                                            float *scores, float *known_share) {
    score_text_body(m, w, text, n, scores, known_share);
}
#endif

typedef void (*ScoreText)(const Model *, Workspace *, const uint8_t *, int64_t, float *, float *);

static ScoreText best_variant(const char **name) {
#ifdef HAVE_AVX2_VARIANT
    if (__builtin_cpu_supports("avx2")) {
        *name = "c-avx2";
        return score_text_avx2;
    }
#endif
    *name = "c";
    return score_text_portable;
}

#endif
