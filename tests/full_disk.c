/* A disk that is full from a chosen write on, for one process and its children: loaded by LD_PRELOAD (tests/full_disk.py).
 *
 * Every call that needs room on the disk, for a file below FULL_DISK_FOLDER, counts as a moment: writing, growing, syncing,
 * and making a file, a folder or a link. The file FULL_DISK_STATE, which the test has mapped too, says which of them fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct state {
    long moments; /* so far */
    long first;   /* the number of the first moment that fails, 0 for none */
    long last;    /* the number of the last one that fails */
    long failed;  /* how many failed */
};

static volatile struct state *state;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FULL_DISK_STATE");
    folder = getenv("FULL_DISK_FOLDER");
    if (path == NULL || folder == NULL) return;
    int handle = open(path, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *map = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (map != MAP_FAILED) state = map;
}

static int full(void) {
    long now = __sync_add_and_fetch(&state->moments, 1);
    if (state->first == 0 || now < state->first || now > state->last) return 0;
    __sync_add_and_fetch(&state->failed, 1);
    errno = ENOSPC;
    return 1;
}

static int below(const char *path) { return strncmp(path, folder, strlen(folder)) == 0; }

static int full_file(int handle) {
    char link[64], path[PATH_MAX];
    if (state == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path) && full();
}

static int full_name(const char *path) {
    char whole[2 * PATH_MAX];
    if (state == NULL) return 0;
    if (path[0] == '/') return below(path) && full();
    char here[PATH_MAX];
    if (getcwd(here, sizeof here) == NULL) return 0;
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    return below(whole) && full();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int handle, const void *data, size_t size) {
    return full_file(handle) ? -1 : NEXT(write)(handle, data, size);
}
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) {
    return full_file(handle) ? -1 : NEXT(pwrite)(handle, data, size, at);
}
ssize_t pwrite64(int handle, const void *data, size_t size, off64_t at) {
    return full_file(handle) ? -1 : NEXT(pwrite64)(handle, data, size, at);
}
ssize_t writev(int handle, const struct iovec *parts, int count) {
    return full_file(handle) ? -1 : NEXT(writev)(handle, parts, count);
}
int fsync(int handle) { return full_file(handle) ? -1 : NEXT(fsync)(handle); }
int fdatasync(int handle) { return full_file(handle) ? -1 : NEXT(fdatasync)(handle); }
int mkdir(const char *path, mode_t mode) { return full_name(path) ? -1 : NEXT(mkdir)(path, mode); }
int link(const char *from, const char *to) { return full_name(to) ? -1 : NEXT(link)(from, to); }

static int makes(const char *path, int flags) { return (flags & O_CREAT) && access(path, F_OK) != 0; }

#define OPEN(name)                                                    \
    int name(const char *path, int flags, ...) {                      \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;   \
        va_end(rest);                                                 \
        if (makes(path, flags) && full_name(path)) return -1;         \
        return NEXT(name)(path, flags, mode);                         \
    }
OPEN(open)
OPEN(open64)
