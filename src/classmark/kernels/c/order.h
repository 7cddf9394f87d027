/* The labels of a paper that its answer can name, in order; runtime/decisions.py is the reference. */
#ifndef CLASSMARK_ORDER_H
#define CLASSMARK_ORDER_H

#include <stdint.h>

/* Of k probabilities write those of the first `top` labels, and of all that reach the cutoff, with
   their columns, by falling probability, equal ones by column; returns how many. Both outputs have
   room for k + 1. */
static int64_t named_in_order(const double *row, int64_t k, int64_t top, double cutoff,
                              int64_t *columns, double *falling) {
    int64_t m = 0;
    for (int64_t c = 0; c < k; c++) {
        double p = row[c];
        if (m >= top && p < cutoff && p <= falling[m - 1]) continue;
        int64_t at = m++;
        for (; at && falling[at - 1] < p; at--)
            falling[at] = falling[at - 1], columns[at] = columns[at - 1];
        falling[at] = p, columns[at] = c;
        while (m > top && falling[m - 1] < cutoff) m--;
    }
    return m;
}

#endif
