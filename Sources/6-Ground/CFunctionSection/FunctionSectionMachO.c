// Mach-O (macOS): the loader lists the images; each is asked for its section, and the executable for its UUID.

#if defined(__APPLE__)

#include "CFunctionSection.h"
#include "Conformances.h"

#include <mach-o/dyld.h>
#include <mach-o/getsect.h>
#include <mach-o/loader.h>
#include <string.h>

void apus_visit_conforming_types(const void *protocol, apus_type_visitor visit, void *context) {
    ConformanceSearch search = {protocol, visit, context};
    uint32_t count = _dyld_image_count();
    for (uint32_t index = 0; index < count; index++) {
        const struct mach_header_64 *header = (const struct mach_header_64 *)_dyld_get_image_header(index);
        if (!header) continue;
        unsigned long size = 0;
        const char *start = (const char *)getsectiondata(header, "__TEXT", "__swift5_proto", &size);
        if (start) searchConformances(start, start + size, &search);
    }
}

int apus_find_function_section(const uint8_t *bytes, size_t size, uint64_t *address, uint64_t *length) {
    (void)bytes;
    (void)size;
    (void)address;
    (void)length;
    return 0;
}

size_t apus_hash_image(const uint8_t *bytes, size_t size, uint8_t *buffer, size_t capacity) {
    (void)bytes;
    (void)size;
    (void)buffer;
    (void)capacity;
    return 0;
}

size_t apus_hash_executable(const char *path, uint8_t *buffer, size_t capacity) {
    (void)path;
    (void)buffer;
    (void)capacity;
    return 0;
}

size_t apus_copy_build_identity(uint8_t *buffer, size_t capacity) {
    const struct mach_header_64 *header = (const struct mach_header_64 *)_dyld_get_image_header(0);
    if (!header) return 0;
    const uint8_t *command = (const uint8_t *)(header + 1);
    for (uint32_t index = 0; index < header->ncmds; index++) {
        const struct load_command *each = (const struct load_command *)command;
        if (each->cmd == LC_UUID) {
            const struct uuid_command *uuid = (const struct uuid_command *)each;
            size_t size = sizeof(uuid->uuid) < capacity ? sizeof(uuid->uuid) : capacity;
            memcpy(buffer, uuid->uuid, size);
            return size;
        }
        command += each->cmdsize;
    }
    return 0;
}

#endif
