// What libstdc++ wants of a C library newer than glibc 2.31.

/// Whether the process has one thread only, so that counting needs no atomic operation. Zero says no, which is always right.
char __libc_single_threaded = 0;
