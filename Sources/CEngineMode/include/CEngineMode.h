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

/// In a crash, lets what was printed last reach the log: puts back `log` in place of the error stream and copies there what
/// the pipes still hold. Called once, with the read ends of the pipes that stand in for the output streams.
void apus_rescue_output_in_crash(int log, int output_pipe, int error_pipe);

/// Keeps the last of what a request wrote to the error stream and was taken out of its pipe, for the log of a crash: the
/// message of a trap comes some time before the signal. One thread at a time.
void apus_remember_error_output(const void *bytes, long count);

/// Forgets it: the next request begins.
void apus_forget_error_output(void);

#if defined(__cplusplus)
}
#endif

#endif
