public import Pickle
import Locks

/// A namespace in the memory of its process.
public final class InMemoryNamespace: EngineNamespace {
    private let values = Mutex<[String: PickleValue]>([:])

    /// A namespace in which no name has a value.
    public init() {}

    public var names: [String] { self.values.withLock { $0.keys.sorted() } }

    public func pickled(_ name: String) -> PickleValue? { self.values.withLock { $0[name] } }

    public func setPickled(_ name: String, to value: PickleValue?) { self.values.withLock { $0[name] = value } }

    /// Takes all values away.
    public func removeAll() { self.values.withLock { $0.removeAll() } }
}
