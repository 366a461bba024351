// The parts of engine mode and controller mode that only C can do: take the process over before its `main`, and touch the standard streams.

#ifndef APUS_CENGINE_MODE_H
#define APUS_CENGINE_MODE_H

#if defined(__cplusplus)
extern "C" {
#endif

/// Runs the engine and never returns. Defined in Swift; called in place of `main` when the environment has
/// `APUS_ENGINE_MODE=1`.
void apus_engine_main(void);

/// Runs a controller and never returns. Defined in Swift; called in place of `main` when the environment has
/// `APUS_CONTROLLER_MODE=1`.
void apus_controller_main(void);

/// Makes C's `stdout`, through which Swift prints, write each line at once.
void apus_line_buffer_standard_output(void);

/// Writes the bytes that C's `stdout` has buffered.
void apus_flush_standard_output(void);

/// Writes a byte, the signal's number, to the descriptor whenever SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 comes. These are handlers,
/// not ignored signals, so programs that the engine starts get the defaults back. SIGPIPE is ignored.
void apus_forward_signals(int descriptor);

/// Names the log, and the read ends of the pipes that stand in for the output streams, for `apus_rescue_output`.
void apus_rescue_output_at_end(int log, int output_pipe, int error_pipe);

/// Writes the last output to the log: makes the log the error stream, and copies to it the remembered bytes and those that the
/// pipes still hold. Safe in a signal handler.
void apus_rescue_output(void);

/// Remembers the last bytes that a request wrote to the error stream and that were taken out of its pipe, for the log of a crash:
/// the message of a trap comes some time before the signal. One thread at a time.
void apus_remember_error_output(const void *bytes, long count);

/// Forgets the remembered bytes, because the next request begins.
void apus_forget_error_output(void);

/// Copies the last remembered bytes, `room` at most, and returns how many they are.
long apus_remembered_error_output(void *bytes, long room);

/// How the process is ending.
struct apus_process_end {
    /// The signal that it crashed with; 0 where it calls `exit`.
    int signal;
    /// The code that `exit` was called with; -1 where the system does not say.
    int code;
};

/// Reports the end of the process from now on: when it crashes or calls `exit`, an `apus_process_end` is written to `report`, and
/// the process waits until it can read from `answer`, 100 ms at most; then it ends as it would have without this call. If no
/// answer comes, its connections are shut down, so that peers see its end at once.
void apus_tell_of_end(int report, int answer);

/// Notes that the process is about to end as it should, so that its end is not reported.
void apus_end_in_order(void);

/// Gives the calling thread a stack for signal handlers, so that the overflow of its own stack can be reported. Called once in a
/// thread's life, by few threads: the memory is never given back.
void apus_use_signal_stack(void);

#if defined(__cplusplus)
}
#endif

#endif
