import ApusCore
import NIOCore

/// Has the list of engines written to a file, for a controller that takes over from this one.
final class EnginesFile {
    private let engines: EngineRoster
    private let loop: any EventLoop
    /// Called with the registered engines soon after one came or went; once for many that come together.
    private let write: (@Sendable (EngineRegistry.State) -> Void)?
    private var isUnsaved = false

    init(_ engines: EngineRoster, on loop: any EventLoop, write: (@Sendable (EngineRegistry.State) -> Void)?) {
        self.engines = engines
        self.loop = loop
        self.write = write
    }

    /// Has the list of engines written after a short while, once for all engines that come and go meanwhile: of a thousand
    /// engines that register within a second, not each may cost a list of a thousand.
    func saveSoon() {
        guard self.write != nil, !self.isUnsaved else { return }
        self.isUnsaved = true
        self.loop.assumeIsolated().scheduleTask(in: .milliseconds(20)) { self.save() }
    }

    /// Has the list written now if it has changed since.
    func save() {
        guard self.isUnsaved else { return }
        self.isUnsaved = false
        self.write?(self.engines.state)
    }
}
