// The records that the compiler makes of conformances, as far as finding the types takes. Their layout is part of Swift's ABI: casts
// read them in the running program (swift/ABI/Metadata.h: TargetProtocolConformanceDescriptor, TargetTypeContextDescriptor).

#ifndef APUS_CONFORMANCES_H
#define APUS_CONFORMANCES_H

#include "CFunctionSection.h"

typedef struct {
    const void *protocol;
    apus_type_visitor visit;
    void *context;
} ConformanceSearch;

/// Visits the types that conform, among the records of one section: a list of relative addresses.
void searchConformances(const char *start, const char *stop, const ConformanceSearch *search);

#endif
