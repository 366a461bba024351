// Reads the records of conformances, which are the same in ELF and Mach-O.

#include "Conformances.h"

typedef int32_t Relative;

/// How a conformance refers to its type, from bit 3 of its flags.
enum { TypeKindShift = 3, TypeKindMask = 7, DirectType = 0, IndirectType = 1 };

typedef struct {
    Relative protocol;
    Relative type;
    Relative witnessTable;
    uint32_t flags;
} Conformance;

typedef struct {
    uint32_t flags;
    Relative parent;
    Relative name;
    Relative accessor;
} TypeDescriptor;

/// The flag of a generic type, whose accessor needs arguments.
enum { IsGeneric = 0x80 };

typedef struct {
    const void *metadata;
    size_t state;
} MetadataResponse;

typedef __attribute__((swiftcall)) MetadataResponse (*MetadataAccessor)(size_t request);

static const void *follow(const Relative *place) { return (const char *)place + *place; }

/// The target of a relative address. An odd one leads to a pointer to the target, as for a protocol of another image.
static const void *followIndirect(const Relative *place) {
    const char *target = (const char *)place + (*place & ~1);
    return *place & 1 ? *(const void *const *)target : target;
}

void searchConformances(const char *start, const char *stop, const ConformanceSearch *search) {
    const Relative *end = (const Relative *)stop;
    for (const Relative *record = (const Relative *)start; record < end; record++) {
        if (*record == 0) continue;
        const Conformance *conformance = follow(record);
        if (followIndirect(&conformance->protocol) != search->protocol) continue;
        const void *type = follow(&conformance->type);
        switch ((conformance->flags >> TypeKindShift) & TypeKindMask) {
            case DirectType: break;
            case IndirectType: type = *(const void *const *)type; break;
            default: continue;
        }
        if (!(((const TypeDescriptor *)type)->flags & IsGeneric)) search->visit(type, search->context);
    }
}

const void *apus_metadata_of_type(const void *type) {
    const TypeDescriptor *descriptor = type;
    MetadataAccessor accessor = (MetadataAccessor)follow(&descriptor->accessor);
    // 0: complete metadata, and wait for it.
    return accessor(0).metadata;
}
