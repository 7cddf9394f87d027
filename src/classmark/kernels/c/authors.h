/* From authors' names to what the author table says of a paper, in whole numbers: the same as
   kernels/authors.py, which is the reference. Names fold as in papers/authors.py; those that need
   more than the table of Latin letters are left to it. */
#ifndef CLASSMARK_AUTHORS_H
#define CLASSMARK_AUTHORS_H

#include "fold.h"
#include "score.h"

#define MAX_NAME_BYTES 300 /* a longer name may have more characters than are read */
#define MAX_WORDS (MAX_NAME_BYTES / 2 + 1)
#define FIRST_LATIN 0x80
#define N_LATIN 0x100
#define N_PERIODS 256 /* of papers, from -1; before it nothing counts, and after it all alike */
#define CROSS_LISTED 0x80
#define MOST_VOTES (3 * 1024)
#define WHOLE_BITS 16
#define LOG_SHIFT 3
#define LOG_ENTRIES 4096
#define SHARE_STEPS 255
#define FEATURES_IN_32_BITS 48 /* of at most 1244 times 32768 */
#define AUTHORS_AHEAD 8
#define BLOCK 8
#define N_FACTS 5
#define N_VOTES 4
#define N_FEATURES 6

typedef struct {
    uint8_t text[MAX_NAME_BYTES];
    int16_t start[MAX_WORDS + 1]; /* of each word in text; after the last one, the length */
    int n, comma;                 /* words; those before the first comma */
    int length, is_inside;        /* of text; whether the last word may go on */
} Words;

typedef struct {
    uint64_t full, initial;
} NameKeys;

static int is_word_of(const Words *w, int i, const char *const *list) {
    size_t n = w->start[i + 1] - w->start[i];
    for (; *list; list++)
        if (strlen(*list) == n && !memcmp(*list, w->text + w->start[i], n)) return 1;
    return 0;
}

static int is_suffix(const Words *w, int i) {
    static const char *const suffixes[] = {"jr", "sr", "ii", "iii", "iv", NULL};
    return w->start[i + 1] - w->start[i] <= 3 && is_word_of(w, i, suffixes);
}

static int is_group(const Words *w, int i) {
    static const char *const groups[] = {"collaboration", "collaborations", "consortium", "group",
                                         "team", NULL};
    return w->start[i + 1] - w->start[i] >= 4 && is_word_of(w, i, groups);
}

static int end_without_suffixes(const Words *w, int first, int end) {
    while (end - first > 1 && is_suffix(w, end - 1)) end--;
    return end;
}

/* Take one folded character of ASCII. */
static inline void put(Words *w, uint8_t c) {
    if (is_letter(c)) {
        if (!w->is_inside) w->start[w->n++] = w->length;
        w->text[w->length++] = lower(c);
        w->is_inside = 1;
    } else if (c != '\'' && c != '`' && c != '{' && c != '}') {
        if (c == ',' && w->comma < 0) w->comma = w->n;
        w->is_inside = 0;
    }
}

/* Cut a name of UTF-8, at most MAX_NAME_BYTES, into words in lower case; latin has two characters
   of ASCII for each one of its range. Returns 0 if it needs the reference. */
static int cut_words(const uint8_t *s, int64_t n, const uint8_t *latin, Words *w) {
    w->n = w->length = w->is_inside = 0, w->comma = -1;
    for (int64_t i = 0; i < n; i++) {
        if (s[i] == '\\') return 0;
        if (s[i] < 0x80) {
            put(w, s[i]);
            continue;
        }
        if (s[i] > 0xC5) return 0;
        const uint8_t *pair = latin + 2 * (((s[i] & 31) << 6 | (s[i + 1] & 63)) - FIRST_LATIN);
        if (!pair[0]) return 0;
        put(w, pair[0]);
        if (pair[1]) put(w, pair[1]);
        i++;
    }
    w->start[w->n] = w->length;
    if (w->comma < 0) w->comma = w->n;
    return 1;
}

static uint64_t hash_word(const Words *w, int i, uint64_t hash) {
    for (int at = w->start[i]; at < w->start[i + 1]; at++) hash = hash * WORD_BASE + w->text[at] + 1;
    return hash;
}

static inline uint64_t hash_byte(uint64_t hash, uint8_t c) { return hash * WORD_BASE + c + 1; }

static uint64_t hash_text(const uint8_t *s, int64_t n) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < n; i++) hash = hash_byte(hash, s[i]);
    return mix(hash);
}

/* The keys of a name. Returns 1; 0 if it has no letter, -1 if it needs the reference. */
static int name_keys(const uint8_t *s, int64_t n, const uint8_t *latin, NameKeys *keys) {
    Words w;
    if (n > MAX_NAME_BYTES || !cut_words(s, n, latin, &w)) return -1;
    int surname = end_without_suffixes(&w, 0, w.comma);
    int end = end_without_suffixes(&w, w.comma, w.n), has_others = 0, m = 0;
    int16_t order[MAX_WORDS];
    for (int i = w.comma; i < end; i++) has_others |= !is_suffix(&w, i);
    for (int i = w.comma; i < end && (has_others || !surname); i++) order[m++] = i;
    for (int i = 0; i < surname; i++) order[m++] = i;
    if (!m) return 0;
    uint64_t full = hash_word(&w, order[0], 0);
    for (int i = 1; i < m; i++) full = hash_word(&w, order[i], hash_byte(full, ' '));
    keys->full = keys->initial = mix(full);
    if (m == 1 || is_group(&w, order[m - 1])) return 1;
    uint64_t initial = hash_byte(hash_word(&w, order[m - 1], 0), ' ');
    keys->initial = mix(hash_byte(initial, w.text[w.start[order[0]]]));
    return 1;
}

typedef struct {
    const uint16_t *displacements, *initials, *names;
    const int64_t *first_name, *first_entry; /* [n_slots + 1], [n_names + 1] */
    const uint16_t *places;                  /* [n_entries]: column, k more for a cross-list */
    const uint8_t *periods, *counts;         /* [n_entries] */
    const int16_t *profile;                  /* [N_FEATURES * k, k] */
    const int32_t *fading;                   /* [N_PERIODS, 256]: by a paper's and a byte of periods */
    const int64_t *logs;                     /* [LOG_ENTRIES] */
    uint64_t n_buckets, n_slots;
    int64_t k;
} Table;

/* The entries of one author: from first to end by initials, within them to name_end by name. */
typedef struct {
    int64_t first, end, name, name_end;
} Entries;

typedef struct {
    int64_t *sums;     /* [N_VOTES * k], zero between papers */
    int32_t *touched;  /* [N_VOTES * k + 1]: places in sums that are not zero */
    int32_t *features; /* [N_FEATURES * k + 1], and their values */
    int32_t *values;
    int32_t *products; /* [k] */
    uint8_t *blocks;   /* [n_blocks + 1]: 1 where one of BLOCK places may not be zero */
    int64_t n_blocks;
} Tally;

static void free_tally(Tally *t) { free(t->sums), free(t->touched), free(t->blocks); }

static int make_tally(Tally *t, int64_t k) {
    t->n_blocks = (N_VOTES * k + BLOCK - 1) / BLOCK;
    t->sums = calloc(t->n_blocks * BLOCK, sizeof(int64_t));
    t->blocks = calloc(t->n_blocks, 1);
    t->touched = malloc(((N_VOTES + 2 * N_FEATURES + 1) * k + 3) * sizeof(int32_t));
    if (!t->sums || !t->blocks || !t->touched) return 0;
    t->features = t->touched + N_VOTES * k + 1;
    t->values = t->features + N_FEATURES * k + 1;
    t->products = t->values + N_FEATURES * k + 1;
    return 1;
}

/* Find n authors. Each step fetches what the next one reads, for all of them. */
static void find_authors(const Table *t, const NameKeys *keys, int64_t n, Entries *found) {
    for (int64_t i = 0; i < n; i++)
        PREFETCH(t->displacements + (((keys[i].initial >> 32) * t->n_buckets) >> 32));
    for (int64_t i = 0; i < n; i++) {
        found[i].first = slot_among(t->displacements, t->n_buckets, t->n_slots, keys[i].initial);
        PREFETCH(t->initials + found[i].first);
        PREFETCH(t->first_name + found[i].first);
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t slot = found[i].first;
        int is_known = t->initials[slot] == fingerprint_of(keys[i].initial);
        found[i].first = is_known ? t->first_name[slot] : 0;
        found[i].end = is_known ? t->first_name[slot + 1] : 0;
        PREFETCH(t->names + found[i].first);
        PREFETCH(t->first_entry + found[i].first);
        PREFETCH(t->first_entry + found[i].end);
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t wanted = fingerprint_of(keys[i].full);
        int64_t name = found[i].first;
        while (name < found[i].end && t->names[name] != wanted) name++;
        int is_known = name < found[i].end;
        found[i].name = is_known ? t->first_entry[name] : 0;
        found[i].name_end = is_known ? t->first_entry[name + 1] : 0;
        found[i].first = t->first_entry[found[i].first];
        found[i].end = t->first_entry[found[i].end];
    }
}

/* Add the votes of one author, at most MOST_VOTES of primaries; returns whether there are any. */
INLINE int add_votes(const Table *t, Tally *tally, int64_t first, int64_t end, int32_t base,
                     const int32_t *fading) {
    const uint8_t *periods = t->periods, *counts = t->counts;
    const uint16_t *places = t->places;
    int64_t total = 0, *sums = tally->sums;
    uint8_t *blocks = tally->blocks;
    /* Of cross-lists the weights are 0 here. */
    for (int64_t e = first; e < end; e++) total += (int64_t)fading[periods[e]] * counts[e];
    if (!total) return 0;
    int64_t share = ((int64_t)MOST_VOTES << WHOLE_BITS) / total;
    share = share > 1 << WHOLE_BITS ? 1 << WHOLE_BITS : share;
    for (int64_t e = first; e < end; e++) {
        int32_t at = base + places[e];
        sums[at] += fading[periods[e] & ~CROSS_LISTED] * counts[e] * share;
        blocks[at / BLOCK] = 1;
    }
    return 1;
}

/* List the places that have votes, rising, without a branch; returns how many. */
INLINE int64_t touched_places(Tally *tally) {
    int64_t n_found = 0, m = 0;
    int32_t *found = tally->features; /* free until there are features */
    for (int64_t i = 0; i < tally->n_blocks; i++) found[n_found] = (int32_t)i, n_found += tally->blocks[i];
    for (int64_t i = 0; i < n_found; i++) {
        tally->blocks[found[i]] = 0;
        for (int32_t at = found[i] * BLOCK; at < found[i] * BLOCK + BLOCK; at++)
            tally->touched[m] = at, m += tally->sums[at] != 0;
    }
    return m;
}

/* Turn the votes into features; returns how many are not zero. Votes of primaries go to totals. */
INLINE int64_t take_features(const Table *t, Tally *tally, int64_t totals[2]) {
    int64_t m = 0, k = t->k, n_touched = touched_places(tally);
    totals[0] = totals[1] = 0;
    for (int64_t i = 0; i < n_touched; i++) {
        int64_t at = tally->touched[i];
        tally->sums[at] >>= WHOLE_BITS;
        int level = at >= 2 * k;
        if (at - level * 2 * k < k) totals[level] += tally->sums[at];
    }
    for (int64_t i = 0; i < n_touched; i++) {
        int64_t at = tally->touched[i], votes = tally->sums[at], level = at >= 2 * k;
        int64_t step = votes >> LOG_SHIFT, label = at - level * 2 * k;
        tally->sums[at] = 0;
        tally->features[m] = (int32_t)at;
        tally->values[m] = (int32_t)t->logs[step < LOG_ENTRIES ? step : LOG_ENTRIES - 1];
        m += tally->values[m] != 0;
        if (label >= k || !votes) continue;
        tally->features[m] = (int32_t)((N_VOTES + level) * k + label);
        tally->values[m] = (int32_t)((uint32_t)(votes * SHARE_STEPS) / (uint32_t)totals[level]);
        m += tally->values[m] != 0;
    }
    return m;
}

/* sums[c] = sum of value * profile over the features, exact */
INLINE void add_profile(const Table *t, Tally *tally, int64_t m, double *sums) {
    int64_t k = t->k;
    int32_t *products = tally->products;
    for (int64_t c = 0; c < k; c++) sums[c] = 0;
    for (int64_t i = 0; i < m;) {
        int64_t end = i + FEATURES_IN_32_BITS < m ? i + FEATURES_IN_32_BITS : m;
        memset(products, 0, k * sizeof *products);
        for (; i + 1 < end; i += 2) {
            const int16_t *a = t->profile + tally->features[i] * k;
            const int16_t *b = t->profile + tally->features[i + 1] * k;
            int32_t x = tally->values[i], y = tally->values[i + 1];
            for (int64_t c = 0; c < k; c++) products[c] += x * a[c] + y * b[c];
        }
        for (; i < end; i++) {
            const int16_t *a = t->profile + tally->features[i] * k;
            for (int64_t c = 0; c < k; c++) products[c] += tally->values[i] * a[c];
        }
        for (int64_t c = 0; c < k; c++) sums[c] += products[c];
    }
}

/* What the n authors of a paper of this period say: facts are authors, those with earlier papers by
   name and by initials, and the votes of both. */
INLINE void count_paper_body(const Table *t, Tally *tally, const Entries *found, int64_t n,
                             int64_t period, int64_t *facts, double *sums) {
    period = period < -1 ? -1 : period > N_PERIODS - 2 ? N_PERIODS - 2 : period;
    const int32_t *fading = t->fading + (period + 1) * 256;
    facts[0] = n, facts[1] = facts[2] = 0;
    for (int64_t i = 0; i < n; i++) {
        facts[1] += add_votes(t, tally, found[i].name, found[i].name_end, 0, fading);
        facts[2] += add_votes(t, tally, found[i].first, found[i].end, (int32_t)(2 * t->k), fading);
    }
    add_profile(t, tally, take_features(t, tally, facts + 3), sums);
}

typedef void (*CountPaper)(const Table *, Tally *, const Entries *, int64_t, int64_t, int64_t *,
                           double *);

static void count_paper_portable(const Table *t, Tally *tally, const Entries *found, int64_t n,
                                 int64_t period, int64_t *facts, double *sums) {
    count_paper_body(t, tally, found, n, period, facts, sums);
}

#ifdef HAVE_AVX2_VARIANT
__attribute__((target("avx2"))) static void count_paper_avx2(const Table *t, Tally *tally,
                                                             const Entries *found, int64_t n,
                                                             int64_t period, int64_t *facts,
                                                             double *sums) {
    count_paper_body(t, tally, found, n, period, facts, sums);
}
static CountPaper best_count(void) {
    return __builtin_cpu_supports("avx2") ? count_paper_avx2 : count_paper_portable;
}
#else
static CountPaper best_count(void) { return count_paper_portable; }
#endif

/* Paper i has the authors from starts[i] on. */
static void count_papers(const Table *t, Tally *tally, const Entries *found, const int64_t *starts,
                         const int64_t *periods, int64_t n, int64_t *facts, double *sums) {
    CountPaper count_paper = best_count();
    int64_t n_fetched = 0;
    for (int64_t i = 0; i < n; i++) {
        for (; n_fetched < starts[n] && n_fetched < starts[i + 1] + AUTHORS_AHEAD; n_fetched++) {
            PREFETCH(t->places + found[n_fetched].first);
            PREFETCH(t->periods + found[n_fetched].first);
            PREFETCH(t->counts + found[n_fetched].first);
        }
        count_paper(t, tally, found + starts[i], starts[i + 1] - starts[i], periods[i],
                    facts + i * N_FACTS, sums + i * t->k);
    }
}

#endif
