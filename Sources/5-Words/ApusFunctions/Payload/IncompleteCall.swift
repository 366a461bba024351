package import NIOCore
import Pickle

/// A call some of whose arguments are results that are still to come.
///
/// The client sends one buffer as a place holder for each, and says in the request's metadata at which of the buffers. The
/// controller puts the result's buffers there: a result is serialized as an argument is, so that nothing need be decoded.
package struct IncompleteCall: Sendable {
    private let buffers: [ByteBuffer]
    /// The buffers to be replaced, in order.
    private let places: [Int]
    private let info: CallInfo
    /// Where the counts stand: behind the function.
    private let infoPlace: Int

    /// - Parameter places: Which of the buffers stand for results, in any order.
    /// - Throws: `PickleError` if they are no call, or one of the places is no argument's or named twice.
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

    /// The whole call: the buffers of each result, by its place.
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
            // What comes after the positional arguments' buffers is counted nowhere.
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
