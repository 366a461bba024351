// Linux's memory files (memfd_create(2)), which Swift's view of the C library lacks. Elsewhere all of this fails.

#ifndef APUS_CSHARED_MEMORY_H
#define APUS_CSHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__cplusplus)
extern "C" {
#endif

/// A new file of that name in memory with these bytes, sealed: nobody can write to it, shrink it, or grow it. -1: errno says why not.
int apus_memory_create(const char *_Nonnull name, const void *_Nonnull bytes, size_t count);

/// Whether the file is one that `apus_memory_create` has made, of that size.
bool apus_memory_is_sealed(int file, size_t count);

#if defined(__cplusplus)
}
#endif

#endif
