import ApusFunctions

// The tests compile this module and do not link it: engines load it.

/// The engine that runs the function, which is known only if the module shares the program's copy of Apus, and the number.
@Remote func sampledEngine(_ number: Int) -> [Int] { [EngineContext.current?.engineID ?? -1, number] }

/// Three times the number.
@Remote func triple(_ number: Int) -> Int { 3 * number }

/// Ends with an error that has a name of its own.
@Remote func failSample() throws { throw SampleError() }

struct SampleError: Error {}
