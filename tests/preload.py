"""Makes the n-th call of a C library function fail in a process under test and in its children.

A small shared library is compiled when a test first needs it and loaded with ``LD_PRELOAD``.
``CLASSMARK_FAIL`` chooses the fault, ``FUNCTION:N:ERROR[:PATH]``:

- ``fork:3:EAGAIN``: the third fork fails.
- ``write:2+:ENOSPC:/tmp/x``: the second and all later writes to files below ``/tmp/x`` fail.
- ``rename:1:KILL``: the process is killed with SIGKILL just before its first rename.
- ``mmap:0:EIO``: nothing fails.

Calls are counted over a process and everything it forks; a program that is executed counts afresh.
``PATH`` is part of the name of the file; memory without one is ``anonymous``. Every call that
counts is a line in the file that ``CLASSMARK_FAIL_LOG`` names, so a first run with N = 0 says how
many there are. Where Python dumps its traceback on SIGUSR1 (``faulthandler.register``) into the
same file, the lines after it say which call of the code it was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FUNCTIONS = {
    "fork": "fork, vfork",
    "thread": "pthread_create",
    "pipe": "pipe, pipe2",
    "socket": "socket, socketpair",
    "accept": "accept, accept4",
    "mmap": "mmap, mmap64 of a file or of shared memory",
    "memory": "mmap, mmap64 for the allocator",
    "open": "open, open64, openat, openat64",
    "write": "write, writev, pwrite, pwrite64",
    "rename": "rename, renameat, renameat2",
    "fsync": "fsync, fdatasync",
    "mkdir": "mkdir",
    "truncate": "ftruncate, ftruncate64, posix_fallocate, posix_fallocate64",
}
"""What a name in ``CLASSMARK_FAIL`` stands for."""

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILL -1
static char wanted[16], path[PATH_MAX];
static long first;
static int is_forever, fault;
static long *count; /* shared with every process that is forked */

static int error_number(const char *name) {
    if (!strcmp(name, "KILL")) return KILL;
    for (int i = 1; i < 140; i++)
        if (strerrorname_np(i) && !strcmp(strerrorname_np(i), name)) return i;
    fprintf(stderr, "CLASSMARK_FAIL: no such error: %s\n", name);
    _exit(120);
}

/* Chooses another fault, and counts from the beginning; a test may call it in a forked process. */
void set_fault(const char *text) {
    char number[16], error[32];
    *path = 0;
    if (sscanf(text, "%15[^:]:%15[^:]:%31[^:]:%4000[^\n]", wanted, number, error, path) < 3) {
        fprintf(stderr, "CLASSMARK_FAIL: not FUNCTION:N:ERROR[:PATH]: %s\n", text);
        _exit(120);
    }
    first = atol(number);
    is_forever = strchr(number, '+') != NULL;
    fault = error_number(error);
    count = (long *)syscall(SYS_mmap, 0, sizeof(long), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("CLASSMARK_FAIL");
    if (text) set_fault(text);
}

/* Has Python say where it is, if it was asked to do so. */
static void dump_traceback(void) {
    struct sigaction now;
    if (!sigaction(SIGUSR1, 0, &now) && now.sa_handler != SIG_DFL) raise(SIGUSR1);
}

static void note(long n, int fails, const char *path) {
    const char *log = getenv("CLASSMARK_FAIL_LOG");
    char line[PATH_MAX + 80];
    if (!log) return;
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int size = snprintf(line, sizeof line, "%s %ld %s %s\n", wanted, n, fails ? "failed" : "passed",
                        path ? path : "");
    if (file < 0) return;
    flock(file, LOCK_EX); /* processes write one after the other */
    if (syscall(SYS_write, file, line, size) < 0) {}
    dump_traceback();
    flock(file, LOCK_UN);
    syscall(SYS_close, file);
}

/* Returns the error that this call fails with, 0 if it does not. */
static int fails(const char *name, const char *file) {
    if (!count || strcmp(name, wanted) || (*path && (!file || !strstr(file, path)))) return 0;
    int before = errno;
    long n = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    int now = first > 0 && (n == first || (is_forever && n > first));
    note(n, now, file);
    errno = before;
    if (!now) return 0;
    if (fault == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = fault;
    return fault;
}

static int file_fails(const char *name, int file) {
    char link[40], target[PATH_MAX] = "";
    if (!count || strcmp(name, wanted)) return 0;
    int before = errno;
    if (file < 0) {
        strcpy(target, "anonymous");
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t size = readlink(link, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = 0;
    }
    errno = before;
    return fails(name, target);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

pid_t fork(void) { return fails("fork", 0) ? -1 : NEXT(fork)(); }
pid_t vfork(void) { return fork(); } /* nobody can return from a frame that called vfork */

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    int error = fails("thread", 0);
    return error ? error : NEXT(pthread_create)(t, a, f, x);
}

int pipe(int ends[2]) { return fails("pipe", 0) ? -1 : NEXT(pipe)(ends); }
int pipe2(int ends[2], int flags) { return fails("pipe", 0) ? -1 : NEXT(pipe2)(ends, flags); }
int socket(int d, int t, int p) { return fails("socket", 0) ? -1 : NEXT(socket)(d, t, p); }
int socketpair(int d, int t, int p, int ends[2]) {
    return fails("socket", 0) ? -1 : NEXT(socketpair)(d, t, p, ends);
}
int accept(int s, struct sockaddr *a, socklen_t *n) {
    return fails("accept", 0) ? -1 : NEXT(accept)(s, a, n);
}
int accept4(int s, struct sockaddr *a, socklen_t *n, int flags) {
    return fails("accept", 0) ? -1 : NEXT(accept4)(s, a, n, flags);
}

#define MMAP(name, type) \
    void *name(void *at, size_t size, int prot, int flags, int file, type offset) { \
        int is_own = (flags & MAP_ANONYMOUS) && !(flags & MAP_SHARED); \
        if (file_fails(is_own ? "memory" : "mmap", file)) return MAP_FAILED; \
        return NEXT(name)(at, size, prot, flags, file, offset); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
#define OPEN(name) \
    int name(const char *file, int flags, ...) { \
        MODE(flags) \
        return fails("open", file) ? -1 : NEXT(name)(file, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *file, int flags, ...) { \
        MODE(flags) \
        return fails("open", file) ? -1 : NEXT(name)(folder, file, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *data, size_t size) {
    return file_fails("write", file) ? -1 : NEXT(write)(file, data, size);
}
ssize_t writev(int file, const struct iovec *parts, int n) {
    return file_fails("write", file) ? -1 : NEXT(writev)(file, parts, n);
}
#define PWRITE(name, type) \
    ssize_t name(int file, const void *data, size_t size, type offset) { \
        return file_fails("write", file) ? -1 : NEXT(name)(file, data, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int rename(const char *from, const char *to) {
    return fails("rename", to) ? -1 : NEXT(rename)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    return fails("rename", to) ? -1 : NEXT(renameat)(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return fails("rename", to) ? -1 : NEXT(renameat2)(a, from, b, to, flags);
}

int mkdir(const char *name, mode_t mode) {
    return fails("mkdir", name) ? -1 : NEXT(mkdir)(name, mode);
}

int fsync(int file) { return file_fails("fsync", file) ? -1 : NEXT(fsync)(file); }
int fdatasync(int file) { return file_fails("fsync", file) ? -1 : NEXT(fdatasync)(file); }
int ftruncate(int file, off_t n) {
    return file_fails("truncate", file) ? -1 : NEXT(ftruncate)(file, n);
}
int ftruncate64(int file, off64_t n) {
    return file_fails("truncate", file) ? -1 : NEXT(ftruncate64)(file, n);
}
int posix_fallocate(int file, off_t at, off_t n) {
    int error = file_fails("truncate", file);
    return error ? error : NEXT(posix_fallocate)(file, at, n);
}
int posix_fallocate64(int file, off64_t at, off64_t n) {
    int error = file_fails("truncate", file);
    return error ? error : NEXT(posix_fallocate64)(file, at, n);
}
"""


def build_preload(folder: Path) -> Path:
    """Return the compiled library; skips the test if there is no compiler, fails it in CI."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        reason = "there is no C compiler, or this is not Linux"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    source, library = folder / "preload.c", folder / "preload.so"
    source.write_text(_SOURCE, encoding="utf-8")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return library


def failing(library: Path, fault: str, log: Path | None = None) -> dict[str, str]:
    """Return the environment in which a fault happens.

    Args:
        library: of ``build_preload``.
        fault: ``FUNCTION:N:ERROR[:PATH]``.
        log: gets a line for each call that counts.
    """
    name = fault.partition(":")[0]
    assert name in FUNCTIONS, f"{name} is not one of {', '.join(FUNCTIONS)}"
    chosen = {"LD_PRELOAD": str(library), "CLASSMARK_FAIL": fault}
    return chosen if log is None else {**chosen, "CLASSMARK_FAIL_LOG": str(log)}


def calls(log: Path) -> int:
    """Return how many calls counted."""
    return len(log.read_text("utf-8").splitlines()) if log.exists() else 0
