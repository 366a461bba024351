#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CSharedMemory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__

static const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

static bool write_all(int file, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(file, bytes, count);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        count -= (size_t)written;
    }
    return true;
}

int apus_memory_create(const char *name, const void *bytes, size_t count, bool sealed) {
    // Written and not mapped: pages that a write makes need neither a page fault nor zeroes.
    int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0) return -1;
    if (write_all(file, bytes, count) && (!sealed || fcntl(file, F_ADD_SEALS, seals) == 0)) return file;
    int why = errno;
    close(file);
    errno = why;
    return -1;
}

bool apus_memory_append(int file, const void *bytes, size_t count) {
    off_t end = lseek(file, 0, SEEK_CUR);
    if (end < 0) return false;
    if (write_all(file, bytes, count)) return true;
    lseek(file, end, SEEK_SET);
    return false;
}

static bool is_sealed(int file) {
    int have = fcntl(file, F_GET_SEALS);
    return have >= 0 && (have & seals) == seals;
}

bool apus_memory_seal(int file) { return is_sealed(file) || fcntl(file, F_ADD_SEALS, seals) == 0; }

bool apus_memory_is_sealed(int file, size_t count) {
    struct stat status;
    return is_sealed(file) && fstat(file, &status) == 0 && (size_t)status.st_size == count;
}

#else

int apus_memory_create(const char *name, const void *bytes, size_t count, bool sealed) {
    errno = ENOSYS;
    return -1;
}

bool apus_memory_append(int file, const void *bytes, size_t count) { return false; }

bool apus_memory_seal(int file) { return false; }

bool apus_memory_is_sealed(int file, size_t count) { return false; }

#endif
