import ApusFunctions

/// The latest errors that were thrown at this client as themselves, with the engines' descriptions of them.
struct RaisedErrors: Sendable {
    /// The errors, oldest first.
    private var latest: [RemoteError] = []
    /// The number of errors kept: an error is asked about soon after it was caught.
    private static let limit = 100

    mutating func note(_ error: RemoteError) {
        // The metadata of one task may be asked for many times.
        if self.latest.last == error { return }
        self.latest.append(error)
        if self.latest.count > Self.limit { self.latest.removeFirst() }
    }

    func origin(of error: TravellingError) -> RemoteError? { self.latest.last { $0.travelling == error } }
}

extension Client {
    /// Where an error that was thrown here as itself was raised: the engine, the function and the traceback.
    ///
    /// ```swift
    /// do { try await view.apply($withdraw, 70) } catch let error as Overdrawn {
    ///     print(error.amount, client.remoteError(of: error)?.description ?? "")
    /// }
    /// ```
    ///
    /// Errors are told apart by their type and their encoded value: of several equal ones the latest counts.
    /// ``TaskMetadata/remoteError`` and ``CompositeError/remoteErrors`` say the same of one task or call.
    ///
    /// - Returns: Nil for an error that no engine raised, or that a hundred others have followed; a ``RemoteError`` itself.
    public func remoteError(of error: any Error) -> RemoteError? {
        if let error = error as? RemoteError { return error }
        guard let travelling = TravellingError(error) else { return nil }
        return self.connection.withRaisedErrors { $0.origin(of: travelling) }
    }
}
