import Dispatch
import Foundation

/// The signals that ask a controller to stop, taken from the moment this is made: one that comes while it starts is not lost.
struct ControllerSignals {
    /// The signals' numbers as they come.
    let numbers: AsyncStream<Int32>
    private let sources: [any DispatchSourceSignal]

    init(_ numbers: [Int32] = [SIGINT, SIGTERM, SIGABRT]) {
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

    func cancel() { for source in self.sources { source.cancel() } }
}
