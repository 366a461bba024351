// A program that links this file has its definitions of the functions below instead of the C library's and Dispatch's, which go on to
// those for every thread that is in no simulation. Swift's runtime reads its clocks and random numbers by the first two, and hands
// jobs of its global executor, now or after a delay, to the others.

#define _GNU_SOURCE
#include "CSimulatedTime.h"

#if defined(__linux__)

#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Thread_local struct {
    void *simulation;
    apus_simulation_take take;
    int64_t now;
    uint64_t random;
} this_thread;

/// Seconds from 1970 to the start of 2026, when simulations begin.
static const int64_t epoch = 1767225600;

bool apus_simulation_is_possible(void) { return true; }

void apus_simulation_enter(void *simulation, apus_simulation_take take, uint64_t seed) {
    this_thread.simulation = simulation;
    this_thread.take = take;
    this_thread.random = seed;
}

void apus_simulation_leave(void) { this_thread.simulation = NULL; }

void apus_simulation_set_time(int64_t nanoseconds) { this_thread.now = nanoseconds; }

void apus_simulation_run(uintptr_t work, uintptr_t job) { ((void (*)(void *))work)((void *)job); }

/// The function of that name that would be called if this file had none.
static void *system_function(const char *name) { return dlsym(RTLD_NEXT, name); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*system_clock)(clockid_t, struct timespec *);
    if (this_thread.simulation) {
        time->tv_sec = this_thread.now / 1000000000 + (clock == CLOCK_REALTIME ? epoch : 0);
        time->tv_nsec = this_thread.now % 1000000000;
        return 0;
    }
    if (!system_clock) system_clock = (int (*)(clockid_t, struct timespec *))system_function("clock_gettime");
    return system_clock(clock, time);
}

/// Random bytes by the generator SplitMix64.
static void fill(unsigned char *bytes, size_t count) {
    while (count > 0) {
        uint64_t value = this_thread.random += 0x9E3779B97F4A7C15;
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        value ^= value >> 31;
        size_t some = count < sizeof value ? count : sizeof value;
        memcpy(bytes, &value, some);
        bytes += some;
        count -= some;
    }
}

// Swift's runtime asks for random numbers in this way only.
long syscall(long number, ...) {
    static long (*system_call)(long, ...);
    va_list list;
    va_start(list, number);
    long arguments[6];
    for (int index = 0; index < 6; index++) arguments[index] = va_arg(list, long);
    va_end(list);
    if (number == SYS_getrandom && this_thread.simulation) {
        fill((unsigned char *)arguments[0], (size_t)arguments[1]);
        return arguments[1];
    }
    if (!system_call) system_call = (long (*)(long, ...))system_function("syscall");
    return system_call(
        number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

void dispatch_async_f(void *queue, void *context, void (*work)(void *)) {
    static void (*system_async)(void *, void *, void (*)(void *));
    if (this_thread.simulation) {
        this_thread.take(this_thread.simulation, (uintptr_t)work, (uintptr_t)context, 0);
        return;
    }
    if (!system_async) system_async = (void (*)(void *, void *, void (*)(void *)))system_function("dispatch_async_f");
    system_async(queue, context, work);
}

void dispatch_after_f(uint64_t when, void *queue, void *context, void (*work)(void *)) {
    static void (*system_after)(uint64_t, void *, void *, void (*)(void *));
    if (this_thread.simulation) {
        // The highest bit says which clock is meant.
        int64_t delay = (int64_t)(when & ~(UINT64_C(1) << 63)) - this_thread.now;
        this_thread.take(this_thread.simulation, (uintptr_t)work, (uintptr_t)context, delay > 0 ? delay : 0);
        return;
    }
    if (!system_after) system_after = (void (*)(uint64_t, void *, void *, void (*)(void *)))system_function("dispatch_after_f");
    system_after(when, queue, context, work);
}

#else

bool apus_simulation_is_possible(void) { return false; }
void apus_simulation_enter(void *simulation, apus_simulation_take take, uint64_t seed) {}
void apus_simulation_leave(void) {}
void apus_simulation_set_time(int64_t nanoseconds) {}
void apus_simulation_run(uintptr_t work, uintptr_t job) {}

#endif
