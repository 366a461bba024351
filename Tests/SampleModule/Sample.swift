import ApusFunctions

// A module that the tests compile and do not link: engines load it.

/// The engine that ran the function, which it knows only if the module shares the program's copy of Apus; and the number.
@Remote func sampledEngine(_ number: Int) -> [Int] { [EngineContext.current?.engineID ?? -1, number] }

/// Three times the number.
@Remote func triple(_ number: Int) -> Int { 3 * number }

/// Ends with an error that has a name of its own.
@Remote func failSample() throws { throw SampleError() }

struct SampleError: Error {}
