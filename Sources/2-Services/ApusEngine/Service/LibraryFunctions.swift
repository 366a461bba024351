import ApusFunctions

/// Loads a compiled module into the program of the engine that runs this: a shared library whose remote functions the engine has from
/// then on, under their own names. Clients call it by name, as any other.
///
/// - Parameter path: The library's file as the engine sees it.
/// - Returns: The functions that are new to the program, by their whole names.
/// - Throws: ``LibraryError``.
@Remote
func loadFunctionLibrary(_ path: String) async throws -> [String] {
    let functions = try FunctionRegistry.shared.load(libraryAt: path)
    // Told though none is new: another engine of the same program may have loaded it.
    if let access = EngineContext.current?.engine as? ClusterAccess {
        try await access.tellFunctions(FunctionRegistry.shared.names)
    }
    return functions
}
