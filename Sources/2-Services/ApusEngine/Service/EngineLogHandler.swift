import ApusWire
package import Logging
import NIOCore

/// Writes log lines to a descriptor: the process's original error stream, also while functions' output is captured.
package struct EngineLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel = Logger.Level.info
    private let label: String
    private let descriptor: Int32

    package init(label: String, descriptor: Int32) {
        self.label = label
        self.descriptor = descriptor
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var metadata = self.metadata
        if let own = event.metadata { metadata.merge(own) { $1 } }
        let details = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        DescriptorOutput.write("\(WireDate.now) \(event.level) \(self.label): \(event.message)\(details)\n", to: self.descriptor)
    }
}
