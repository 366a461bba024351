// Memory that several processes see, and how one gives it to another: calls that Swift cannot make by itself. Memory files are
// Linux's (memfd_create(2)); elsewhere there are none.

#ifndef APUS_CSHARED_MEMORY_H
#define APUS_CSHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__cplusplus)
extern "C" {
#endif

/// Makes a file in memory with these bytes, freed with its last descriptor and mapping; -1: errno says why not.
///
/// A sealed file cannot be written to, shrunk or grown.
int apus_memory_create(const char *_Nonnull name, const void *_Nullable bytes, size_t count, bool sealed);

/// Writes all of these bytes at the file's end. False when there is no memory for them; the file is then unchanged.
bool apus_memory_append(int file, const void *_Nonnull bytes, size_t count);

/// Seals a file that `apus_memory_create` has made, and whose mappings are all private. False when the system refuses.
bool apus_memory_seal(int file);

/// Seals a file that `apus_memory_create` has made, and whose mappings are all private. False when the system refuses.
bool apus_memory_seal(int file);

/// Whether the file is a sealed one that `apus_memory_create` has made, of that size.
bool apus_memory_is_sealed(int file, size_t count);

/// Gives the other end of a Unix socket a copy of a descriptor. False when the system refuses.
bool apus_send_descriptor(int socket, int descriptor);

/// Takes a descriptor that `apus_send_descriptor` has sent; -1 when it has sent none. Does not wait.
int apus_receive_descriptor(int socket);

#if defined(__cplusplus)
}
#endif

#endif
