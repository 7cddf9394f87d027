/* The end of the text recipe for ASCII, with lower case: finish() of papers/recipe.py is the
   reference; both must agree. Characters are only ever left out, or become one of one byte. */
#ifndef CLASSMARK_FOLD_H
#define CLASSMARK_FOLD_H

#include <stdint.h>

enum { SOFT_SPACE = 1, DELETE = 127 };

static inline int is_letter(uint8_t c) { return (uint8_t)((c | 32) - 'a') < 26; }

static inline int is_alphanumeric(uint8_t c) { return is_letter(c) || (uint8_t)(c - '0') < 10; }

static inline uint8_t lower(uint8_t c) { return c | ((uint8_t)(c - 'A') < 26 ? 32 : 0); }

/* Markup becomes blanks or nothing; s[n] may be read, and must not be markup itself. Returns the
   new length, or -1 if there are quotation marks of LaTeX, which are rare and left to the
   reference. */
static int64_t drop_markup(const uint8_t *s, int64_t n, uint8_t *out) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t c = s[i];
        if (c >= ' ' && c < '^' && c != '$') {
            out[m++] = c;
            continue;
        }
        switch (c) {
        case '`': return -1;
        case '^':
        case '_': {
            int64_t at = i + 1 + (s[i + 1] == '{');
            if (at + 1 < n && is_letter(s[at]) && is_letter(s[at + 1])) out[m++] = ' ';
            break;
        }
        case '$':
        case '}':
            if (i + 1 < n && s[i + 1] == (c == '$' ? '$' : '{')) out[m++] = ' ', i++;
            break;
        case '{': break;
        case SOFT_SPACE: out[m++] = c; break;
        default: out[m++] = c < ' ' || c == '~' || c == DELETE ? ' ' : c;
        }
    }
    return m;
}

/* In place: soft spaces part words or vanish, runs of blanks or dashes become one, case is lowered,
   and blanks at the ends vanish. Returns the new length. */
static int64_t squeeze(uint8_t *s, int64_t n) {
    int64_t m = 0;
    uint8_t last = ' '; /* kept beside s[m - 1]: to read what was just written is slow */
    for (int64_t i = 0; i < n; i++) {
        uint8_t c = s[i];
        if (c == SOFT_SPACE) {
            while (i + 1 < n && s[i + 1] == SOFT_SPACE) i++;
            if (!is_alphanumeric(last) || i + 1 >= n || !is_alphanumeric(s[i + 1])) continue;
            c = ' ';
        }
        if (c == last && (c == ' ' || c == '-')) continue;
        s[m++] = lower(c);
        last = c;
    }
    while (m && s[m - 1] == ' ') m--;
    return m;
}

/* Whether finishing changes nothing; without branches, so that the compiler takes many at once. */
static int is_plain(const uint8_t *s, int64_t n) {
    uint8_t found = n && (s[0] == ' ' || s[n - 1] == ' ');
    for (int64_t i = 0; i < n; i++) {
        uint8_t c = s[i];
        found |= (c < ' ') | (c == '$') | (c == '\\') | ((uint8_t)(c - '^') < 3) | (c > 'z');
        found |= (c == s[i + 1]) & ((c == ' ') | (c == '-'));
    }
    return !found;
}

/* How many words Python's split() finds in ASCII, counted up to most. */
static int64_t count_words(const char *text, int64_t n, int64_t most) {
    int64_t words = 0;
    for (int64_t i = 0, was_blank = 1; i < n && words < most; i++) {
        uint8_t c = (uint8_t)text[i];
        int is_blank = c <= ' ' && (c == ' ' || (c >= 9 && c <= 13) || c >= 28);
        words += was_blank && !is_blank;
        was_blank = is_blank;
    }
    return words;
}

/* Write a finished field and a line end to out, which has room for n + 1; returns the length. */
static int64_t fold_field(const char *text, int64_t n, uint8_t *out) {
    const uint8_t *s = (const uint8_t *)text;
    int64_t m = n;
    if (is_plain(s, n)) {
        for (int64_t i = 0; i < n; i++) out[i] = lower(s[i]);
    } else {
        m = drop_markup(s, n, out);
        if (m < 0) return -1;
        m = squeeze(out, m);
    }
    out[m] = '\n';
    return m + 1;
}

#endif
