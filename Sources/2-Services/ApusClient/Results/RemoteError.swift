package import ApusFunctions
public import ApusWire
public import Foundation

/// An error that code raised on an engine.
///
/// An error that is `Codable`, of a type that this program has too, is thrown as itself; ``Client/remoteError(of:)`` and
/// ``TaskMetadata/remoteError`` say where it was raised. All other errors are thrown as ``RemoteError``.
public struct RemoteError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The name of the error's type on the engine, a Swift type or a Python class.
    public let name: String
    /// The error's text; for a Swift `LocalizedError`, its description.
    public let value: String
    /// The traceback on the engine, one line per element, without the colours that some engines add.
    public let traceback: [String]
    /// The engine that ran the code.
    public let engineID: EngineID?
    /// The uuid that names the engine for as long as it lives; nil where the reply does not say.
    public let engineUUID: EngineUUID?
    /// How the code was called: `apply` or `execute`.
    public let method: String?
    /// The traceback as the engine shows it; nil where that has no colours.
    private let colouredTraceback: [String]?
    package let travelling: TravellingError?
    package let texts: ErrorTexts

    init(_ content: ErrorContent, engineID: EngineID?, engineUUID: EngineUUID?) {
        self.name = content.name
        self.value = content.value
        self.traceback = content.traceback.map { Terminal.plain($0) }
        self.colouredTraceback = self.traceback == content.traceback ? nil : content.traceback
        self.engineID = content.engineInfo[MetadataMember.engineID]?.int.map { EngineID($0) } ?? engineID
        self.engineUUID = content.engineInfo[MetadataMember.engineUUID]?.string.map { EngineUUID($0) } ?? engineUUID
        self.method = content.engineInfo["method"]?.string
        self.travelling = content.typedError.map { TravellingError(type: $0.type, value: $0.value) }
        let texts = content.localizedTexts
        self.texts = ErrorTexts(
            failureReason: texts["reason"], recoverySuggestion: texts["suggestion"], helpAnchor: texts["help"])
    }

    /// One line: `[3:apply] ValueError: no such thing`.
    public var summary: String {
        guard let engineID else { return "[Engine Exception] \(self.name): \(self.value)" }
        return "[\(engineID):\(self.method ?? "apply")] \(self.name): \(self.value)"
    }

    /// The remote traceback, and the summary line. A Python traceback has its colours where this process's standard output and
    /// standard error are terminals, and nowhere else.
    public var description: String {
        let traceback = self.shownTraceback(coloured: Terminal.showsColours)
        return traceback.isEmpty ? self.summary : traceback.joined(separator: "\n") + "\n" + self.summary
    }

    func shownTraceback(coloured: Bool) -> [String] {
        coloured ? self.colouredTraceback ?? self.traceback : self.traceback
    }
}

extension RemoteError: LocalizedError {
    /// The error's text; the name of its type where the text is empty.
    public var errorDescription: String? { self.value.isEmpty ? self.name : self.value }
    /// The reason that a Swift `LocalizedError` gave.
    public var failureReason: String? { self.texts.failureReason }
    /// The suggestion that a Swift `LocalizedError` made.
    public var recoverySuggestion: String? { self.texts.recoverySuggestion }
    /// The help anchor of a Swift `LocalizedError`.
    public var helpAnchor: String? { self.texts.helpAnchor }
}

extension RemoteError: RelayedError {}

/// Errors of several calls at once: of several engines, or several elements of a map.
public struct CompositeError: Error, Sendable, CustomStringConvertible {
    /// A sentence that says how many calls failed.
    public let message: String
    /// The error of each call that failed, in the order of the targets or elements. An error that is `Codable` is here as itself.
    public let errors: [any Error]
    /// The engines' descriptions of the errors, in the same order; nil for an error that no code on an engine raised.
    public let remoteErrors: [RemoteError?]

    init(_ message: String, _ failures: [TaskFailure]) {
        self.message = message
        self.errors = failures.map { $0.error }
        self.remoteErrors = failures.map { $0.remote }
    }

    /// The message and one line per error. A traceback that several errors share is shown once, with the engines that it came
    /// from. Only the first fifty errors are shown.
    public var description: String {
        let coloured = Terminal.showsColours
        var lines = [self.message]
        var groups: [(remote: RemoteError?, engines: [String], summaries: [String])] = []
        for (error, remote) in zip(self.errors, self.remoteErrors).prefix(Self.shown) {
            guard let remote else {
                groups.append((remote: nil, engines: [], summaries: ["\(error)"]))
                continue
            }
            let engine = remote.engineID.map { "\($0)" } ?? "?"
            if let index = groups.firstIndex(where: { $0.remote?.traceback == remote.traceback && !remote.traceback.isEmpty }) {
                if !groups[index].engines.contains(engine) { groups[index].engines.append(engine) }
                groups[index].summaries.append(remote.summary)
            } else {
                groups.append((remote: remote, engines: [engine], summaries: [remote.summary]))
            }
        }
        for group in groups {
            lines += group.summaries
            let traceback = group.remote?.shownTraceback(coloured: coloured) ?? []
            if !traceback.isEmpty {
                lines.append(
                    "  traceback of engine\(group.engines.count > 1 ? "s" : "") \(group.engines.joined(separator: ", ")):")
                lines += traceback.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: false) }.map { "    \($0)" }
            }
        }
        if self.errors.count > Self.shown { lines.append("and \(self.errors.count - Self.shown) more") }
        return lines.joined(separator: "\n")
    }

    /// How many errors the description shows; a map may have a million.
    private static let shown = 50
}

extension CompositeError: LocalizedError {
    /// The message.
    public var errorDescription: String? { self.message }
}

/// How a call failed: the error to throw and, where code on an engine raised it, the engine's description of the error.
///
/// A class, because all calls of a lost task share one failure, and there may be thousands of them.
final class TaskFailure: Error {
    let error: any Error
    let remote: RemoteError?

    init(_ error: any Error, remote: RemoteError? = nil) {
        self.error = error
        self.remote = remote ?? error as? RemoteError
    }

    /// The error, about to be thrown at the caller. Where the caller is a function on an engine, its turn notes the error's
    /// origin, because the function may throw the error on.
    var thrown: any Error {
        if let remote, let travelling = remote.travelling { EngineContext.current?.turn?.met(travelling, of: remote) }
        return self.error
    }
}
