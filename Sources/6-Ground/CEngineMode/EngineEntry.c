// Engine mode and controller mode: any program that links Apus can be started again as an engine or as a controller, without a line
// of code in its `main`.
//
// Either takes the place of `main` and not of some constructor before it, for constructors run in the order of linking:
// those of libraries linked after this file (libdispatch's, in a program with a static Swift runtime) would not have run.

#define _GNU_SOURCE
#include "CEngineMode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Weak, so that a program with this file and without the engine or the controller links.
#pragma weak apus_engine_main
#pragma weak apus_controller_main

static int isSet(const char *name) {
    const char *mode = getenv(name);
    return mode && strcmp(mode, "1") == 0;
}

static int wantsMode(void) { return isSet("APUS_ENGINE_MODE") || isSet("APUS_CONTROLLER_MODE"); }

static void runMode(void) {
    int wantsEngine = isSet("APUS_ENGINE_MODE");
    // Programs that the engine's functions start must not become engines.
    unsetenv("APUS_ENGINE_MODE");
    unsetenv("APUS_CONTROLLER_MODE");
    if (wantsEngine && apus_engine_main) apus_engine_main();
    if (!wantsEngine && apus_controller_main) apus_controller_main();
    fprintf(stderr, "apus: %s mode was asked for, and this program has none\n", wantsEngine ? "engine" : "controller");
    _exit(1);
}

#if defined(__linux__) && defined(__GLIBC__)

#include <dlfcn.h>

typedef int (*MainFunction)(int, char **, char **);
typedef int (*StartFunction)(MainFunction, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

static int modeMain(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    (void)environment;
    runMode();
    return 1;
}

/// Replaces the C library's function of this name, which runs all constructors and then the `main` it is handed.
int __libc_start_main(
    MainFunction main, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*loaderFini)(void), void *stackEnd) {
    StartFunction start = (StartFunction)dlsym(RTLD_NEXT, "__libc_start_main");
    if (!start) _exit(127);
    return start(wantsMode() ? modeMain : main, argc, argv, init, fini, loaderFini, stackEnd);
}

#else

/// On other systems a constructor starts either. On macOS the system's libraries are ready by then.
__attribute__((constructor)) static void enterMode(void) {
    if (wantsMode()) runMode();
}

#endif
