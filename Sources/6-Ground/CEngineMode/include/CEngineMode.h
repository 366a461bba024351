// What only C can do for engine mode: take the process over before its `main`, and touch the standard streams.

#ifndef APUS_CENGINE_MODE_H
#define APUS_CENGINE_MODE_H

#if defined(__cplusplus)
extern "C" {
#endif

/// Runs the engine and never returns. Defined in Swift; called in place of `main` when the environment has
/// `APUS_ENGINE_MODE=1`.
void apus_engine_main(void);

/// Makes C's `stdout`, through which Swift prints, write each line at once.
void apus_line_buffer_standard_output(void);

/// Writes what C's `stdout` holds back.
void apus_flush_standard_output(void);

/// Writes a byte, the signal's number, to the descriptor whenever one of these signals comes: SIGINT, SIGTERM. Handlers, not
/// ignored signals: programs that the engine starts get the default back.
void apus_forward_signals(int descriptor);

/// Names the log, and the read ends of the pipes that stand in for the output streams, for `apus_rescue_output`.
void apus_rescue_output_at_end(int log, int output_pipe, int error_pipe);

/// Lets what was printed last reach the log: puts it back in place of the error stream, and copies there what was remembered
/// and what the pipes still hold. Safe in a signal handler.
void apus_rescue_output(void);

/// Keeps the last of what a request wrote to the error stream and was taken out of its pipe, for the log of a crash: the
/// message of a trap comes some time before the signal. One thread at a time.
void apus_remember_error_output(const void *bytes, long count);

/// Forgets it: the next request begins.
void apus_forget_error_output(void);

/// Gives the end of what is remembered, and how many bytes that is.
long apus_remembered_error_output(void *bytes, long room);

/// How the process is ending.
struct apus_process_end {
    /// The signal that it crashed with; 0 where it calls `exit`.
    int signal;
    /// The code that `exit` was called with; -1 where the system does not say.
    int code;
};

/// From now on, when the process crashes or calls `exit`, an `apus_process_end` is written to `report`, and the process is held
/// until there is something to read from `answer`, 100 ms at most; then it goes on to its end as it would have without this. Where
/// no answer comes, its connections are shut down, so that peers see its end at once.
void apus_tell_of_end(int report, int answer);

/// The process is about to end as it should: nobody need be told.
void apus_end_in_order(void);

/// Gives the calling thread a stack for signal handlers, so that a function that has used up its own can be told of. Called once
/// in a thread's life, by few threads: the memory is never given back.
void apus_use_signal_stack(void);

#if defined(__cplusplus)
}
#endif

#endif
