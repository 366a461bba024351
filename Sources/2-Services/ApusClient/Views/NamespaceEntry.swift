/// A name in the namespaces of a view's engines, to get and set like a dictionary's key:
///
/// ```swift
/// try await view["a"].set(3)
/// let values = try await view["a"].get(as: Int.self)
/// ```
///
/// `view["a"]` itself cannot be assigned to, because an assignment cannot wait for the engines.
public struct NamespaceEntry<View: Sendable>: Sendable {
    let view: View
    /// The name.
    public let name: String
}

extension EngineView {
    /// The name in the engine's namespace.
    public subscript(name: String) -> NamespaceEntry<EngineView> { NamespaceEntry(view: self, name: name) }
}

extension DirectView {
    /// The name in each engine's namespace.
    public subscript(name: String) -> NamespaceEntry<DirectView> { NamespaceEntry(view: self, name: name) }
}

extension BroadcastView {
    /// The name in each engine's namespace.
    public subscript(name: String) -> NamespaceEntry<BroadcastView> { NamespaceEntry(view: self, name: name) }
}

extension NamespaceEntry<EngineView> {
    /// Sets the name; see ``EngineView/push(_:_:)``.
    public func set(_ value: some Encodable & Sendable) async throws { try await self.view.push(self.name, value) }

    /// The name's value; see ``EngineView/pull(_:as:)``.
    public func get<Value: Decodable & Sendable>(as type: Value.Type = Value.self) async throws -> Value {
        try await self.view.pull(self.name, as: type)
    }
}

extension NamespaceEntry<DirectView> {
    /// Sets the name on every engine; see ``DirectView/push(_:_:)``.
    public func set(_ value: some Encodable & Sendable) async throws { try await self.view.push(self.name, value) }

    /// The name's value on each engine; see ``DirectView/pull(_:as:)``.
    public func get<Value: Decodable & Sendable>(as type: Value.Type = Value.self) async throws -> [Value] {
        try await self.view.pull(self.name, as: type)
    }
}

extension NamespaceEntry<BroadcastView> {
    /// Sets the name on every engine; see ``BroadcastView/push(_:_:)``.
    public func set(_ value: some Encodable & Sendable) async throws { try await self.view.push(self.name, value) }

    /// The name's value on each engine; see ``BroadcastView/pull(_:as:)``.
    public func get<Value: Decodable & Sendable>(as type: Value.Type = Value.self) async throws -> [Value] {
        try await self.view.pull(self.name, as: type)
    }
}
