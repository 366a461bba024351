import ApusFunctions

/// Loads a compiled module, a shared library, into the engine's program, which has the library's remote functions from then on
/// under their own names. Clients call this function by name, like any other.
///
/// - Parameter path: The library's file as the engine sees it.
/// - Returns: The functions that are new to the program, by their whole names.
/// - Throws: ``LibraryError``.
@Remote
func loadFunctionLibrary(_ path: String) async throws -> [String] {
    let functions = try FunctionRegistry.shared.load(libraryAt: path)
    // The hub is told even when no function is new: another engine of the same process may have loaded the library.
    if let access = EngineContext.current?.engine as? ClusterAccess {
        try await access.tellFunctions(FunctionRegistry.shared.names)
    }
    return functions
}
