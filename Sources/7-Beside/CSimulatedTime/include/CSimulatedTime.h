// Time, chance and the threads of Swift's concurrency as a simulation wants them, for the thread that is in one: calls of the system
// that Swift's runtime makes are answered from the simulation. All other threads have the system's own. Linux only; elsewhere there
// are no simulations.

#ifndef APUS_CSIMULATED_TIME_H
#define APUS_CSIMULATED_TIME_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/// Called on the simulation's thread with each job that Swift's runtime would give to its pool of threads: to be run by
/// `apus_simulation_run` when so many nanoseconds of simulated time have passed.
typedef void (*apus_simulation_take)(void *_Nonnull simulation, uintptr_t work, uintptr_t job, int64_t delay);

/// Whether this system can simulate.
bool apus_simulation_is_possible(void);

/// Puts the calling thread into a simulation; the seed is what its random numbers follow from.
void apus_simulation_enter(void *_Nonnull simulation, apus_simulation_take _Nonnull take, uint64_t seed);

/// Takes the calling thread out of its simulation.
void apus_simulation_leave(void);

/// What time it is for the calling thread: nanoseconds of the steady clock.
void apus_simulation_set_time(int64_t nanoseconds);

/// Runs a job that was taken.
void apus_simulation_run(uintptr_t work, uintptr_t job);

#if defined(__cplusplus)
}
#endif

#endif
