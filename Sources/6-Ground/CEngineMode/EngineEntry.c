// Engine mode: any program that links Apus can be started again as an engine, without a line of code in its `main`.
//
// The engine takes the place of `main` and not of some constructor before it, for constructors run in the order of linking:
// those of libraries linked after this file (libdispatch's, in a program with a static Swift runtime) would not have run.

#define _GNU_SOURCE
#include "CEngineMode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Weak, so that a program with this file and without the engine links.
#pragma weak apus_engine_main

static int wantsEngine(void) {
    const char *mode = getenv("APUS_ENGINE_MODE");
    return mode && strcmp(mode, "1") == 0;
}

static void runEngine(void) {
    // Programs that the engine's functions start must not become engines.
    unsetenv("APUS_ENGINE_MODE");
    if (!apus_engine_main) {
        fputs("apus: engine mode was asked for, and this program has no engine in it\n", stderr);
        _exit(1);
    }
    apus_engine_main();
    _exit(1);
}

#if defined(__linux__) && defined(__GLIBC__)

#include <dlfcn.h>

typedef int (*MainFunction)(int, char **, char **);
typedef int (*StartFunction)(MainFunction, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

static int engineMain(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    (void)environment;
    runEngine();
    return 1;
}

/// Replaces the C library's function of this name, which runs all constructors and then the `main` it is handed.
int __libc_start_main(
    MainFunction main, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*loaderFini)(void), void *stackEnd) {
    StartFunction start = (StartFunction)dlsym(RTLD_NEXT, "__libc_start_main");
    if (!start) _exit(127);
    return start(wantsEngine() ? engineMain : main, argc, argv, init, fini, loaderFini, stackEnd);
}

#else

/// On other systems a constructor starts the engine. On macOS the system's libraries are ready by then.
__attribute__((constructor)) static void enterEngineMode(void) {
    if (wantsEngine()) runEngine();
}

#endif
