/* Tokens and feature keys of a folded text. featuriser.py is the reference; both must agree. */
#ifndef CLASSMARK_TEXT_H
#define CLASSMARK_TEXT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BASE 0x9E3779B97F4A7C15ULL
#define PAIR_FACTOR 0xD6E8FEB86659FD93ULL
#define TITLE_SALT 0xA0761D6478BD642FULL
#define MIX_A 0xD6E8FEB86659FD93ULL
#define MIX_B 0x9FB21C651E98DF25ULL

enum { SEPARATOR = 0, WORD = 1, FIELD_BREAK = 2 };

static uint8_t byte_class[256];

static void set_byte_classes(void) {
    for (int b = 0; b < 256; b++)
        byte_class[b] = (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || b >= 128;
    byte_class['\n'] = FIELD_BREAK;
}

static inline uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= MIX_A;
    x ^= x >> 29;
    x *= MIX_B;
    return x ^ (x >> 32);
}

/* Upper bound of the keys that n bytes can give: a word needs a byte and a separator, and gives
   at most four keys. */
static inline int64_t most_keys(int64_t n_bytes) { return 2 * (n_bytes + 1); }

/* Write the keys of one text and return how many; words gets the number of words. A key's sign of
   being a plain word is that its index is in word_at (may be NULL). */
static int64_t text_keys(const uint8_t *text, int64_t n, uint64_t *keys, uint8_t *is_word,
                         int64_t *words) {
    int64_t m = 0, n_words = 0, i = 0;
    int in_title = 1, has_previous = 0;
    uint64_t previous = 0;
    while (i < n) {
        uint8_t class = byte_class[text[i]];
        if (class != WORD) {
            if (class == FIELD_BREAK) in_title = has_previous = 0;
            i++;
            continue;
        }
        uint64_t hash = 0;
        do hash = hash * WORD_BASE + text[i] + 1;
        while (++i < n && byte_class[text[i]] == WORD);
        n_words++;
        is_word[m] = 1;
        keys[m++] = mix(hash);
        if (has_previous) {
            uint64_t pair = previous * PAIR_FACTOR + hash;
            is_word[m] = 0;
            keys[m++] = mix(pair + 1);
            if (in_title) is_word[m] = 0, keys[m++] = mix((pair ^ TITLE_SALT) + 1);
        }
        if (in_title) is_word[m] = 0, keys[m++] = mix(hash ^ TITLE_SALT);
        previous = hash;
        has_previous = 1;
    }
    *words = n_words;
    return m;
}

#endif
