import CFunctionSection
import Locks

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A library that gives this process no functions.
package struct LibraryError: Error, CustomStringConvertible {
    package let path: String
    package let reason: String

    package var description: String { "the library \(self.path) cannot be used: \(self.reason)" }
}

extension FunctionRegistry {
    /// Loads a library, for as long as the process lives, and finds its remote functions. Loading it again changes nothing.
    ///
    /// The library and this program must share one copy of Apus. In a library with a copy of its own, `EngineContext` and Apus's
    /// other types would not be the program's.
    ///
    /// - Parameter path: The library's file; a name without a slash is looked for where the system's loader looks.
    /// - Returns: The functions that are new, by their whole names.
    /// - Throws: ``LibraryError``, also where one of its functions has the name of another; then no function is added.
    package func load(libraryAt path: String) throws -> [String] {
        try refusals.withLock { refusals in
            let imagesBefore = functionImages()
            guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
                let reason = dlerror().map { String(cString: $0) } ?? "the system does not say why"
                let known = path + ": "
                throw LibraryError(
                    path: path, reason: reason.hasPrefix(known) ? String(reason.dropFirst(known.count)) : reason)
            }
            let library = UInt(bitPattern: handle)
            if let refusal = refusals[library] { throw LibraryError(path: path, reason: refusal) }
            do {
                guard apus_has_own_copy(handle) == 0 else {
                    throw LibraryError(
                        path: path,
                        reason: "it has a copy of Apus of its own. Link it and the engine's program with the product ApusDynamic")
                }
                let known = Set(self.all.map(\.qualifiedName))
                try self.loadNewImages()
                return self.all.map(\.qualifiedName).filter { !known.contains($0) }
            } catch {
                // The library stays loaded, because the Swift runtime knows its types by now; its functions are never looked at
                // again.
                refusedImages.withLock { $0.formUnion(functionImages().subtracting(imagesBefore)) }
                let refusal = (error as? LibraryError)?.reason ?? "\(error)"
                refusals[library] = refusal
                throw LibraryError(path: path, reason: refusal)
            }
        }
    }
}

/// Why each library was refused, by the loader's handle: loading it again throws the same error. Locked while a library is
/// loaded, so that new images belong to that library.
private let refusals = Mutex<[UInt: String]>([:])

/// The start addresses of loaded images whose functions are refused.
private let refusedImages = Mutex<Set<UInt>>([])

/// Whether the function belongs to a library that was refused.
func isRefused(_ entry: FunctionSection.Entry) -> Bool { refusedImages.withLock { $0.contains(entry.image) } }

/// The start addresses of the images that have remote functions.
private func functionImages() -> Set<UInt> { Set(FunctionSection.all().map(\.image)) }
