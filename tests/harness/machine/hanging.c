/* Has calls hang for as long as a file is there, as a dead disk or name service does: HANG_WHILE names
 * it, HANG_UNDER the folder whose files hang. To be preloaded (ld.so(8)). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static void hang(void) {
    const char *gate = getenv("HANG_WHILE");
    while (gate && access(gate, F_OK) == 0) usleep(20000);
}

static int is_under(const char *path) {
    const char *folder = getenv("HANG_UNDER");
    return folder && *folder && strncmp(path, folder, strlen(folder)) == 0;
}

static void hang_at(const char *path) {
    if (is_under(path)) hang();
}

static void hang_with(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        hang_at(path);
    }
}

#define OPENS(name)                                  \
    int name(const char *path, int flags, ...) {     \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode_t mode = va_arg(rest, mode_t);          \
        va_end(rest);                                \
        hang_at(path);                               \
        return NEXT(name)(path, flags, mode);        \
    }

OPENS(open)
OPENS(open64)

int fsync(int fd) {
    hang_with(fd);
    return NEXT(fsync)(fd);
}

int rename(const char *from, const char *to) {
    hang_at(from);
    return NEXT(rename)(from, to);
}

int unlink(const char *path) {
    hang_at(path);
    return NEXT(unlink)(path);
}

int getpwuid_r(uid_t uid, struct passwd *found, char *text, size_t size, struct passwd **result) {
    hang();
    return NEXT(getpwuid_r)(uid, found, text, size, result);
}

int getpwnam_r(const char *name, struct passwd *found, char *text, size_t size,
               struct passwd **result) {
    hang();
    return NEXT(getpwnam_r)(name, found, text, size, result);
}

int getgrnam_r(const char *name, struct group *found, char *text, size_t size,
               struct group **result) {
    hang();
    return NEXT(getgrnam_r)(name, found, text, size, result);
}
