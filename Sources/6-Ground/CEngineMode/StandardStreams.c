// The standard streams of an engine's process: buffering, signals, and the last output before a crash.

#include "CEngineMode.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void apus_line_buffer_standard_output(void) { setvbuf(stdout, NULL, _IOLBF, 1 << 16); }

void apus_flush_standard_output(void) { fflush(stdout); }

// MARK: - Signals

static volatile int signalDescriptor = -1;

static void forwardSignal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(signalDescriptor, &byte, 1);
    (void)written;
    errno = saved;
}

void apus_forward_signals(int descriptor) {
    signalDescriptor = descriptor;
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = forwardSignal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    // A peer that closes its end of a pipe is an error of the writer, not the end of the engine.
    signal(SIGPIPE, SIG_IGN);
}

// MARK: - The last output

static int logDescriptor = -1;
static int pipes[2] = {-1, -1};

/// The bytes that the error stream's reader took out of the pipe since the request began, or the last of them.
static char remembered[1 << 14];
/// Written after the bytes that it counts, and read before them, for a crashed thread has no lock that its reader has.
static long rememberedCount = 0;

static long loadRememberedCount(void) { return __atomic_load_n(&rememberedCount, __ATOMIC_ACQUIRE); }

static void storeRememberedCount(long count) { __atomic_store_n(&rememberedCount, count, __ATOMIC_RELEASE); }

void apus_remember_error_output(const void *bytes, long count) {
    const char *start = bytes;
    const long room = (long)sizeof(remembered);
    if (count > room) {
        start += count - room;
        count = room;
    }
    const long before = loadRememberedCount();
    const long kept = before + count > room ? room - count : before;
    memmove(remembered, remembered + before - kept, (size_t)kept);
    memcpy(remembered + kept, start, (size_t)count);
    storeRememberedCount(kept + count);
}

void apus_forget_error_output(void) { storeRememberedCount(0); }

static void copyPipe(int pipe) {
    char bytes[4096];
    ssize_t count;
    // The pipes do not block, so an empty one ends the loop.
    while ((count = read(pipe, bytes, sizeof(bytes))) > 0) {
        if (write(logDescriptor, bytes, (size_t)count) < 0) return;
    }
}

long apus_remembered_error_output(void *bytes, long room) {
    const long all = loadRememberedCount();
    const long count = all < room ? all : room;
    memcpy(bytes, remembered + all - count, (size_t)count);
    return count;
}

void apus_rescue_output(void) {
    if (logDescriptor < 0) return;
    dup2(logDescriptor, STDERR_FILENO);
    ssize_t written = write(logDescriptor, remembered, (size_t)loadRememberedCount());
    (void)written;
    copyPipe(pipes[0]);
    copyPipe(pipes[1]);
}

void apus_rescue_output_at_end(int log, int output_pipe, int error_pipe) {
    pipes[0] = output_pipe;
    pipes[1] = error_pipe;
    logDescriptor = log;
}
