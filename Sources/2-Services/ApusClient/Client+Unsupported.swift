// Names of ipyparallel's client that do nothing here: each says why, and what to do instead.
extension Client {
    /// Does nothing: replies are taken as they come.
    @available(*, deprecated, message: "replies are taken as they come; there is nothing to do")
    public func spin() {}

    /// Does nothing: there is no thread to start, for replies are taken as they come.
    @available(*, deprecated, message: "replies are taken as they come; there is no thread to start")
    public func spinThread(interval: Duration = .seconds(1)) {}

    /// Does nothing: there is no thread to stop.
    @available(*, deprecated, message: "replies are taken as they come; there is no thread to stop")
    public func stopSpinThread() {}

    /// Throws an error: connecting through SSH tunnels is not supported.
    ///
    /// - Throws: ``ApusError`` with code `notSupported`, always.
    public static func connect(file: String, sshServer: String, sshKey: String? = nil) async throws -> Client {
        throw ApusError(
            .notSupported,
            "tunnels through '\(sshServer)' cannot be made yet; open them with 'ssh -L', one for each port in \(file), and connect to a copy "
                + "of it with \"ssh\" empty and \"location\" localhost")
    }

    /// Throws an error: magics in a notebook are not supported.
    ///
    /// - Throws: ``ApusError`` with code `notSupported`, always.
    public func activate(_ targets: Targets = .all, suffix: String = "") throws {
        throw ApusError(
            .notSupported,
            "magics (%px and its kin) need a notebook kernel of Apus, which there is not yet; use client[...].execute(…)")
    }
}
