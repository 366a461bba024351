package import NIOCore
import Pickle

/// A call some of whose arguments are results that are still to come.
///
/// For each such argument the client sends one buffer as a placeholder, and lists the placeholders in the request's metadata. The
/// controller puts the result's buffers there without decoding them: a result is serialized as an argument is.
package struct IncompleteCall: Sendable {
    private let buffers: [ByteBuffer]
    /// The buffers to be replaced, in order.
    private let places: [Int]
    private let info: CallInfo
    /// Where the counts stand: behind the function.
    private let infoPlace: Int

    /// - Parameter places: Which of the buffers stand for results, in any order.
    /// - Throws: `PickleError` if the buffers are no call, or if a place is named twice or is not among the arguments.
    package init(_ buffers: ArraySlice<ByteBuffer>, places: [Int]) throws {
        var rest = buffers
        _ = try ObjectBuffers.deserialize(&rest)
        guard let info = rest.first else { throw PickleError(.malformed, "a call does not say how many arguments it has") }
        self.buffers = Array(buffers)
        self.infoPlace = buffers.count - rest.count
        self.info = try CallInfo(reading: info)
        self.places = places.sorted()
        guard Set(places).count == places.count, self.places.allSatisfy({ $0 > self.infoPlace && $0 < buffers.count }) else {
            throw PickleError(.malformed, "a call has no arguments at the buffers \(places)")
        }
    }

    /// The whole call, each placeholder replaced by its result's buffers.
    package func completed(with results: [Int: [ByteBuffer]]) -> [ByteBuffer] {
        var call: [ByteBuffer] = []
        call.reserveCapacity(self.buffers.count + results.count)
        var added = 0
        for (place, buffer) in self.buffers.enumerated() {
            guard self.places.contains(place), let result = results[place] else {
                call.append(buffer)
                continue
            }
            call.append(contentsOf: result)
            // A call counts the buffers of its positional arguments only.
            if place <= self.infoPlace + self.info.argumentBuffers { added += result.count - 1 }
        }
        if added != 0 {
            let info = CallInfo(
                argumentCount: self.info.argumentCount, argumentBuffers: self.info.argumentBuffers + added, names: self.info.names
            )
            var buffer = ByteBuffer()
            info.write(into: &buffer)
            call[self.infoPlace] = buffer
        }
        return call
    }
}
