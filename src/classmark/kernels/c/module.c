/* The optional C kernel: the same answers as featuriser.py, linear.py and authors.py, faster.
   Limited API (one binary for every Python from 3.11); long calls release the GIL. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "authors.h"
#include "fit.h"
#include "fold.h"
#include "order.h"
#include "score.h"

enum { MAX_BUFFERS = 15, MAX_LOCKED_BYTES = 8192, MAX_LOCKED_AUTHORS = 64, MOST_AUTHORS = 200 };

/* Return None with a reference of its own. The macro of Python's headers takes none from 3.12 on, where
   None is immortal; on 3.11 a binary that was built there would use up None, call by call. */
static PyObject *none(void) {
    Py_IncRef(Py_None);
    return Py_None;
}

typedef struct {
    Py_buffer views[MAX_BUFFERS];
    int n;
} Buffers;

static void release(Buffers *b) {
    while (b->n) PyBuffer_Release(&b->views[--b->n]);
}

/* Take args[first..first+n) as contiguous buffers; those whose bit is set in writable for writing. */
static int take(Buffers *b, PyObject *args, int first, int n, unsigned writable) {
    b->n = 0;
    for (int i = 0; i < n; i++) {
        PyObject *item = PyTuple_GetItem(args, first + i);
        int flags = PyBUF_C_CONTIGUOUS | ((writable >> i & 1) ? PyBUF_WRITABLE : 0);
        if (!item || PyObject_GetBuffer(item, &b->views[i], flags)) {
            release(b);
            return 0;
        }
        b->n++;
    }
    return 1;
}

static int wrong_size(const char *what) {
    PyErr_Format(PyExc_ValueError, "kernel: %s has the wrong size", what);
    return 0;
}

/* offsets must ascend from 0 or more to at most the length of the text */
static int check_offsets(const Py_buffer *text, const Py_buffer *offsets) {
    const int64_t *at = offsets->buf;
    Py_ssize_t n = offsets->len / 8;
    if (n < 1 || at[0] < 0 || at[n - 1] > text->len) return wrong_size("offsets");
    for (Py_ssize_t i = 1; i < n; i++)
        if (at[i] < at[i - 1]) return wrong_size("offsets");
    return 1;
}

/* Take two texts; returns 0 if they are not both of ASCII, -1 for anything other than texts. */
static int take_ascii(PyObject *args, const char *fields[2], Py_ssize_t n[2]) {
    for (int i = 0; i < 2; i++) {
        PyObject *text = PyTuple_GetItem(args, i);
        fields[i] = text ? PyUnicode_AsUTF8AndSize(text, &n[i]) : NULL;
        if (!fields[i]) return -1;
        if (PyUnicode_GetLength(text) != n[i]) return 0;
    }
    return 1;
}

static PyObject *py_count_words(PyObject *self, PyObject *args) {
    (void)self;
    Py_ssize_t n[2];
    const char *fields[2];
    int found = take_ascii(args, fields, n);
    if (found < 0) return NULL;
    if (!found) return none();
    PyObject *limit = PyTuple_GetItem(args, 2);
    int64_t most = limit ? PyLong_AsLongLong(limit) : 0;
    if (PyErr_Occurred()) return NULL;
    int64_t words = count_words(fields[0], n[0], most);
    return PyLong_FromLongLong(words + count_words(fields[1], n[1], most - words));
}

static PyObject *py_order(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    if (!take(&b, args, 0, 4, 0xE)) return NULL;
    PyObject *top = PyTuple_GetItem(args, 4), *cutoff = PyTuple_GetItem(args, 5);
    int64_t n = b.views[3].len / 8 - 1, k = n > 0 ? b.views[0].len / 8 / n : 0;
    int64_t least = top ? PyLong_AsLongLong(top) : 0, *starts = b.views[3].buf;
    double lowest = cutoff ? PyFloat_AsDouble(cutoff) : 0;
    int ok = !PyErr_Occurred();
    if (ok && (n < 0 || b.views[1].len < 8 * (n * k + 1) || b.views[2].len < 8 * (n * k + 1)))
        ok = wrong_size("output");
    if (ok) starts[0] = 0;
    for (int64_t i = 0; ok && i < n; i++)
        starts[i + 1] = starts[i] + named_in_order((const double *)b.views[0].buf + i * k, k, least,
                                                   lowest, (int64_t *)b.views[1].buf + starts[i],
                                                   (double *)b.views[2].buf + starts[i]);
    release(&b);
    if (!ok) return NULL;
    return none();
}

static PyObject *py_fold(PyObject *self, PyObject *args) {
    (void)self;
    Py_ssize_t n[2];
    const char *fields[2];
    int found = take_ascii(args, fields, n);
    if (found < 0) return NULL;
    if (!found) return none();
    uint8_t *out = malloc(n[0] + n[1] + 2);
    if (!out) return PyErr_NoMemory();
    int64_t title = fold_field(fields[0], n[0], out);
    int64_t abstract = title < 0 ? -1 : fold_field(fields[1], n[1], out + title);
    PyObject *folded = NULL;
    if (abstract >= 0) folded = PyBytes_FromStringAndSize((char *)out, title + abstract);
    free(out);
    if (abstract < 0) return none();
    return folded;
}

static PyObject *py_feature_keys(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    if (!take(&b, args, 0, 5, 0x1C)) return NULL;
    const int64_t *offsets = b.views[1].buf;
    uint64_t *keys = b.views[2].buf;
    uint8_t *is_word = b.views[3].buf;
    int64_t *starts = b.views[4].buf, n = b.views[1].len / 8 - 1, words;
    int64_t needed = n < 0 ? 0 : most_keys(b.views[0].len) + 2 * n;
    if (!check_offsets(&b.views[0], &b.views[1]) ||
        ((b.views[2].len < 8 * needed || b.views[3].len < needed || b.views[4].len < 8 * (n + 1)) &&
         !wrong_size("output"))) {
        release(&b);
        return NULL;
    }
    const uint8_t *text = b.views[0].buf;
    Py_BEGIN_ALLOW_THREADS
    starts[0] = 0;
    for (int64_t i = 0; i < n; i++)
        starts[i + 1] = starts[i] + text_keys(text + offsets[i], offsets[i + 1] - offsets[i],
                                              keys + starts[i], is_word + starts[i], &words);
    Py_END_ALLOW_THREADS
    release(&b);
    return none();
}

static int read_model(Model *m, const Buffers *b) {
    const Py_buffer *v = b->views + 2;
    m->displacements = v[0].buf, m->n_buckets = v[0].len / 2;
    m->fingerprints = v[1].buf, m->n_slots = v[1].len / 2;
    m->rows = v[2].buf, m->scale_codes = v[3].buf, m->weights = v[4].buf, m->norms = v[5].buf;
    m->head = v[6].buf, m->bias = v[7].buf, m->k = v[7].len / 8, m->constants = NULL;
    if (!m->n_buckets || !m->n_slots || v[2].len != (Py_ssize_t)m->n_slots * ROW_BYTES ||
        v[3].len != (Py_ssize_t)m->n_slots || v[4].len != MAX_COUNT * 256 * 2 ||
        v[5].len != MAX_COUNT * 4 || v[6].len != m->k * DIM * 2)
        return wrong_size("model");
    return 1;
}

static PyObject *py_score(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    if (!take(&b, args, 0, 12, 0xC00)) return NULL;
    PyObject *hidden_scale = PyTuple_GetItem(args, 12), *logit_scale = PyTuple_GetItem(args, 13);
    Model m;
    Workspace w = {0};
    const int64_t *offsets = b.views[1].buf;
    int64_t n = b.views[1].len / 8 - 1, longest = 0;
    int ok = hidden_scale && logit_scale && read_model(&m, &b) &&
             check_offsets(&b.views[0], &b.views[1]);
    if (ok && (b.views[10].len < n * m.k * 4 || b.views[11].len < n * 4)) ok = wrong_size("output");
    double constants[2] = {0, 0};
    if (ok) {
        constants[0] = PyFloat_AsDouble(hidden_scale);
        constants[1] = PyFloat_AsDouble(logit_scale);
        ok = !PyErr_Occurred();
        m.constants = constants;
    }
    if (ok) {
        for (int64_t i = 0; i < n; i++)
            if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
        if (!make_workspace(&w, longest)) ok = PyErr_NoMemory() != NULL;
    }
    if (ok) {
        const uint8_t *text = b.views[0].buf;
        float *scores = b.views[10].buf, *known = b.views[11].buf;
        const char *name;
        ScoreText score_text = best_variant(&name);
        /* For one paper the lock is kept: a thread that takes it meanwhile may hold it a hundred
           times as long as the paper needs. */
        PyThreadState *state = offsets[n] - offsets[0] > MAX_LOCKED_BYTES ? PyEval_SaveThread() : NULL;
        for (int64_t i = 0; i < n; i++)
            score_text(&m, &w, text + offsets[i], offsets[i + 1] - offsets[i], scores + i * m.k,
                       known + i);
        if (state) PyEval_RestoreThread(state);
    }
    free_workspace(&w);
    release(&b);
    if (!ok) return NULL;
    return none();
}

/* The keys of a name in C, or else from keys_of. Returns 1, 0 for a name without any, -1 on errors. */
static int take_keys(PyObject *name, PyObject *keys_of, const uint8_t *latin, NameKeys *keys) {
    Py_ssize_t n[2] = {PyUnicode_GetLength(name), 0};
    if (n[0] < 0) return -1;
    const char *text[2] = {NULL, NULL};
    if (n[0] <= MAX_NAME_BYTES && !(text[0] = PyUnicode_AsUTF8AndSize(name, &n[0]))) PyErr_Clear();
    int found = text[0] ? name_keys((const uint8_t *)text[0], n[0], latin, keys) : -1;
    if (found >= 0) return found;
    PyObject *both = PyObject_CallFunctionObjArgs(keys_of, name, NULL);
    if (!both || both == Py_None) {
        Py_XDECREF(both);
        return both ? 0 : -1;
    }
    found = 1;
    for (int i = 0; i < 2 && found > 0; i++) {
        PyObject *key = PyTuple_GetItem(both, i);
        text[i] = key ? PyUnicode_AsUTF8AndSize(key, &n[i]) : NULL;
        if (!text[i]) found = -1;
    }
    if (found > 0) {
        keys->full = hash_text((const uint8_t *)text[0], n[0]);
        keys->initial = hash_text((const uint8_t *)text[1], n[1]);
    }
    Py_DECREF(both);
    return found;
}

/* Write the keys of a paper's names from *m on, each once, where there is room for MOST_AUTHORS. */
static int take_names(PyObject *listed, PyObject *keys_of, const uint8_t *latin, NameKeys *keys,
                      int64_t *m) {
    Py_ssize_t n = PyTuple_Size(listed);
    int64_t first = *m;
    for (Py_ssize_t i = 0; i < n && i < MOST_AUTHORS; i++) {
        int found = take_keys(PyTuple_GetItem(listed, i), keys_of, latin, keys + *m);
        if (found < 0) return 0;
        for (int64_t j = first; found && j < *m; j++) found = keys[j].full != keys[*m].full;
        *m += found;
    }
    return n >= 0;
}

static int read_table(Table *t, const Buffers *b) {
    const Py_buffer *v = b->views + 1;
    Py_ssize_t n_names = v[2].len / 2, n_entries = v[6].len;
    t->displacements = v[0].buf, t->n_buckets = v[0].len / 2;
    t->initials = v[1].buf, t->n_slots = v[1].len / 2;
    t->names = v[2].buf, t->first_name = v[3].buf, t->first_entry = v[4].buf;
    t->places = v[5].buf, t->periods = v[6].buf;
    t->counts = v[7].buf, t->profile = v[8].buf, t->fading = v[9].buf, t->logs = v[10].buf;
    t->k = v[11].len ? v[13].len / v[11].len : 0;
    if (b->views[0].len != 2 * N_LATIN || !t->n_buckets || !t->n_slots || t->k < 1 ||
        v[3].len != (Py_ssize_t)(t->n_slots + 1) * 8 || v[4].len != (n_names + 1) * 8 ||
        v[5].len != 2 * n_entries || v[7].len != n_entries ||
        v[8].len != N_FEATURES * t->k * t->k * 2 || v[9].len != N_PERIODS * 256 * 4 ||
        v[10].len != LOG_ENTRIES * 8 || t->first_name[t->n_slots] != n_names ||
        t->first_entry[n_names] != n_entries)
        return wrong_size("table");
    return 1;
}

static PyObject *py_authors(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    if (!take(&b, args, 0, 15, 0x6000)) return NULL;
    PyObject *papers = PyTuple_GetItem(args, 15), *keys_of = PyTuple_GetItem(args, 16);
    Table t;
    Tally tally = {0};
    int64_t n = b.views[12].len / 8, most = 0, m = 0;
    int64_t *starts = malloc((n + 1) * sizeof *starts);
    NameKeys *keys = NULL;
    Entries *found = NULL;
    int ok = papers && keys_of && read_table(&t, &b);
    if (ok && (PyList_Size(papers) != n || b.views[13].len < n * N_FACTS * 8))
        ok = wrong_size("output");
    for (int64_t i = 0; ok && i < n; i++) {
        Py_ssize_t listed = PyTuple_Size(PyList_GetItem(papers, i));
        ok = listed >= 0;
        most += listed < MOST_AUTHORS ? listed : MOST_AUTHORS;
    }
    if (ok) {
        keys = malloc((most + 1) * sizeof *keys), found = malloc((most + 1) * sizeof *found);
        ok = keys && found && starts && make_tally(&tally, t.k);
        if (!ok) PyErr_NoMemory();
    }
    for (int64_t i = 0; ok && i < n; i++) {
        starts[i] = m;
        ok = take_names(PyList_GetItem(papers, i), keys_of, b.views[0].buf, keys, &m);
    }
    if (ok) {
        starts[n] = m;
        PyThreadState *state = m > MAX_LOCKED_AUTHORS ? PyEval_SaveThread() : NULL;
        find_authors(&t, keys, m, found);
        count_papers(&t, &tally, found, starts, b.views[12].buf, n, b.views[13].buf, b.views[14].buf);
        if (state) PyEval_RestoreThread(state);
    }
    free(starts), free(keys), free(found), free_tally(&tally);
    release(&b);
    if (!ok) return NULL;
    return none();
}

static int read_batch(Batch *x, const Buffers *b, int64_t dim) {
    x->columns = b->views[0].buf, x->values = b->views[1].buf;
    x->starts = b->views[2].buf, x->papers = b->views[3].buf;
    x->n_batch = b->views[3].len / 8, x->dim = dim;
    int64_t n_papers = b->views[2].len / 8 - 1;
    for (int64_t i = 0; i < x->n_batch; i++)
        if (x->papers[i] < 0 || x->papers[i] >= n_papers) return wrong_size("batch");
    if (dim < 1 || dim > MAX_DIM || dim % LANES || b->views[5].len < x->n_batch * dim * 4) return wrong_size("batch");
    return 1;
}

static PyObject *py_sum_rows(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    Batch x;
    if (!take(&b, args, 0, 6, 0x20)) return NULL;
    PyObject *dim = PyTuple_GetItem(args, 6), *rounds = PyTuple_GetItem(args, 7);
    int ok = dim && rounds && read_batch(&x, &b, PyLong_AsLongLong(dim));
    if (ok) {
        int rounds_rows = PyObject_IsTrue(rounds);
        Py_BEGIN_ALLOW_THREADS
        sum_rows(&x, b.views[4].buf, b.views[5].buf, rounds_rows);
        Py_END_ALLOW_THREADS
    }
    release(&b);
    if (!ok) return NULL;
    return none();
}

static PyObject *py_update_rows(PyObject *self, PyObject *args) {
    (void)self;
    Buffers b;
    Batch x;
    if (!take(&b, args, 0, 7, 0x50)) return NULL;
    PyObject *dim = PyTuple_GetItem(args, 7), *rate = PyTuple_GetItem(args, 8);
    PyObject *decay = PyTuple_GetItem(args, 9), *part = PyTuple_GetItem(args, 10);
    PyObject *parts = PyTuple_GetItem(args, 11);
    int ok = dim && rate && decay && part && parts && read_batch(&x, &b, PyLong_AsLongLong(dim));
    if (ok) {
        float step = (float)PyFloat_AsDouble(rate), shrink = (float)PyFloat_AsDouble(decay);
        int64_t p = PyLong_AsLongLong(part), n = PyLong_AsLongLong(parts);
        Py_BEGIN_ALLOW_THREADS
        if (n > 0)
            update_rows(&x, b.views[4].buf, b.views[6].buf, b.views[5].buf, step, shrink, p, n);
        Py_END_ALLOW_THREADS
        ok = !PyErr_Occurred();
    }
    release(&b);
    if (!ok) return NULL;
    return none();
}

static PyObject *py_variant(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    const char *name;
    best_variant(&name);
    return PyUnicode_FromString(name);
}

static PyMethodDef methods[] = {
    {"fold", py_fold, METH_VARARGS,
     "fold(title, abstract): the folded text of two spelled texts; None if they are not of ASCII, or "
     "have quotation marks of LaTeX."},
    {"count_words", py_count_words, METH_VARARGS,
     "count_words(title, abstract, most): how many words; None if they are not of ASCII."},
    {"order", py_order, METH_VARARGS,
     "order(probabilities, columns, falling, starts, top, cutoff): the labels that answers name."},
    {"feature_keys", py_feature_keys, METH_VARARGS,
     "feature_keys(text, offsets, keys, is_word, starts): keys of every text."},
    {"score", py_score, METH_VARARGS,
     "score(text, offsets, displacements, fingerprints, rows, scale_codes, weights, norms, head, "
     "bias, scores, known_share, hidden_scale, logit_scale): logits of every text."},
    {"authors", py_authors, METH_VARARGS,
     "authors(latin, displacements, initials, names, first_name, first_entry, places, periods, "
     "counts, profile, fading, logs, paper_periods, facts, sums, papers, keys_of): what the author "
     "table says of papers, a list of tuples of names."},
    {"sum_rows", py_sum_rows, METH_VARARGS,
     "sum_rows(columns, values, starts, papers, embedding, sums, dim, rounds)."},
    {"update_rows", py_update_rows, METH_VARARGS,
     "update_rows(columns, values, starts, papers, embedding, gradients, squares, dim, rate, decay, "
     "part, parts)."},
    {"variant", py_variant, METH_NOARGS, "Name of the code path this processor takes."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "C kernel of the fast tier.", 0, methods, slots, NULL, NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    set_byte_classes();
    return PyModuleDef_Init(&definition);
}
