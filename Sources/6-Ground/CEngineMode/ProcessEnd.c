// The end of an engine's process that its own code brings about: a trap, a signal, a call of `exit`.
//
// The end is reported before the process is gone, because Swift's backtraces keep the process and its connections for seconds.
// The crashed thread asks a sound thread to send the report, and waits for it.

#define _GNU_SOURCE
#include "CEngineMode.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const int crashSignals[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV};
enum { crashSignalCount = sizeof(crashSignals) / sizeof(crashSignals[0]) };

/// The handlers that these signals had before ours.
static struct sigaction previous[crashSignalCount];

static int reportDescriptor = -1;
static int answerDescriptor = -1;
/// The engine's process. A child that a function forked has the handlers too, and its end is not reported.
static pid_t owner = -1;
/// Whether the end has been reported, or need not be.
static volatile int isTold = 0;

/// Milliseconds to wait for the thread that reports, which may need a lock that the crashed thread holds.
static const int patience = 100;

/// Shuts every connection down, so that peers see the end that could not be reported. For other files the call only fails.
static void shutConnections(void) {
    long limit = sysconf(_SC_OPEN_MAX);
    if (limit < 0 || limit > 4096) limit = 4096;
    for (int descriptor = 3; descriptor < limit; descriptor++) shutdown(descriptor, SHUT_RDWR);
}

static void tell(int signal, int code) {
    if (reportDescriptor < 0 || __atomic_exchange_n(&isTold, 1, __ATOMIC_SEQ_CST)) return;
    struct apus_process_end end = {signal, code};
    if (write(reportDescriptor, &end, sizeof(end)) != sizeof(end)) return shutConnections();
    struct pollfd answer = {answerDescriptor, POLLIN, 0};
    int count;
    do { count = poll(&answer, 1, patience); } while (count < 0 && errno == EINTR);
    if (count <= 0) shutConnections();
}

static void takeCrash(int number, siginfo_t *information, void *context) {
    int saved = errno;
    if (getpid() == owner) {
        tell(number, 0);
        // From here on, output about the crash goes to the log.
        apus_rescue_output();
    }
    const struct sigaction *next = NULL;
    for (int index = 0; index < crashSignalCount; index++) {
        if (crashSignals[index] == number) next = &previous[index];
    }
    errno = saved;
    if (next && (next->sa_flags & SA_SIGINFO) && next->sa_sigaction) {
        // Swift's backtraces; they remove all handlers, and let the process crash.
        next->sa_sigaction(number, information, context);
    } else if (next && next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN) {
        next->sa_handler(number);
    }
    // The end was reported, so the process must end now, whatever the handler before ours did. A fault happens again when this
    // handler returns; a signal that was sent does not.
    signal(number, SIG_DFL);
    if (!information || information->si_code <= 0) raise(number);
}

#if defined(__GLIBC__)
static void takeExit(int code, void *unused) {
    (void)unused;
#else
static void takeExit(void) {
    // `atexit` does not give the code.
    int code = -1;
#endif
    if (getpid() != owner || __atomic_load_n(&isTold, __ATOMIC_SEQ_CST)) return;
    // Text that a function printed before it called `exit` is part of its output.
    fflush(stdout);
    tell(0, code);
    apus_rescue_output();
}

void apus_tell_of_end(int report, int answer) {
    owner = getpid();
    answerDescriptor = answer;
    reportDescriptor = report;
    for (int index = 0; index < crashSignalCount; index++) {
        struct sigaction action;
        memset(&action, 0, sizeof(action));
        action.sa_sigaction = takeCrash;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        sigaction(crashSignals[index], &action, &previous[index]);
    }
#if defined(__GLIBC__)
    on_exit(takeExit, NULL);
#else
    atexit(takeExit);
#endif
}

void apus_end_in_order(void) { __atomic_store_n(&isTold, 1, __ATOMIC_SEQ_CST); }

void apus_use_signal_stack(void) {
    // Room for our handler and for Swift's, never freed.
    const size_t size = 1 << 17;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_t stack;
    memset(&stack, 0, sizeof(stack));
    stack.ss_sp = memory;
    stack.ss_size = size;
    if (sigaltstack(&stack, NULL) != 0) munmap(memory, size);
}
