import Dispatch
import Foundation

/// The signals that ask a controller or a cluster to stop. A signal that comes while either still starts is kept until it is read.
package struct StopSignals {
    /// The signals' numbers as they come.
    package let numbers: AsyncStream<Int32>
    private let sources: [any DispatchSourceSignal]

    package init(_ numbers: [Int32] = [SIGINT, SIGTERM, SIGABRT]) {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
        self.numbers = stream
        self.sources = numbers.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number)
            source.setEventHandler { continuation.yield(number) }
            source.resume()
            return source
        }
    }

    package func cancel() { for source in self.sources { source.cancel() } }
}
