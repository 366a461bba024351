// Questions about the running program that only C can answer: which types the compiler lists as conforming to a protocol, which
// image an address is of, and which build the executable is.

#ifndef APUS_CFUNCTION_SECTION_H
#define APUS_CFUNCTION_SECTION_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#if __has_feature(nullability)
#pragma clang assume_nonnull begin
#endif

/// Receives the descriptor of one type; `context` is what the caller handed in.
typedef void (*apus_type_visitor)(const void *type, void *context);

/// Visits the types that conform to a protocol, in every image loaded now: the executable and its shared libraries. The compiler
/// lists each conformance in a section of the binary, for casts to look it up at run time; generic types are passed over. No
/// Swift code runs, because the loader's lock is held: the visitor must not load or unload libraries, nor ask for a type's
/// metadata.
void apus_visit_conforming_types(const void *protocol, apus_type_visitor visit, void *context);

/// The metadata of the type with this descriptor, which is what `Any.Type` holds.
const void *apus_metadata_of_type(const void *type);

/// Where the image begins that has this address, as the loader put it; null for none.
const void *_Nullable apus_image_of(const void *address);

/// Whether a library that was loaded with dlopen uses a copy of these functions of its own, and not ours.
int apus_has_own_copy(void *library);

/// Writes bytes that identify the build of the running executable: its linker's build id where there is one, else a hash over
/// all parts of it that get loaded. Returns the number of bytes written, at most `capacity`; 0 when neither can be read.
size_t apus_copy_build_identity(uint8_t *buffer, size_t capacity);

/// Hashes the loadable parts of the executable at `path`, as `apus_copy_build_identity` does without a build id; for tests.
/// Writes 16 bytes and returns 16, or returns 0 when the file is no executable of this machine.
size_t apus_hash_executable(const char *path, uint8_t *buffer, size_t capacity);

/// Looks for the section of conformances in the bytes of an image's file (ELF only), which are aligned as a header of it is.
/// Gives 1, the section's address relative to the loaded image, and its length; 0 when there is no section, or the file is
/// malformed.
int apus_find_function_section(const uint8_t *bytes, size_t size, uint64_t *address, uint64_t *length);

/// Hashes the bytes of an executable's file as `apus_hash_executable` does (ELF only).
size_t apus_hash_image(const uint8_t *bytes, size_t size, uint8_t *buffer, size_t capacity);

#if __has_feature(nullability)
#pragma clang assume_nonnull end
#endif

#if defined(__cplusplus)
}
#endif

#endif
