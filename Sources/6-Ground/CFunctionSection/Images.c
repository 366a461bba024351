// The image of an address or a function: the executable, or one of its shared libraries.

#define _GNU_SOURCE
#include "CFunctionSection.h"

#include <dlfcn.h>

const void *apus_image_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : NULL;
}

int apus_has_own_copy(void *library) {
    // Each copy of Apus has this function. A library that uses ours has none, or finds ours.
    const void *theirs = dlsym(library, "apus_visit_conforming_types");
    return theirs && apus_image_of(theirs) != apus_image_of((const void *)&apus_visit_conforming_types);
}
