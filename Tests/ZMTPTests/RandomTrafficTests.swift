import NIOCore
import Testing

@testable import ZMTP

@Suite("Random traffic")
struct RandomTrafficTests {
    static let limits = FrameDecoder.Limits(messageSize: 200_000, frames: 40)

    /// Messages of every shape: empty frames, lengths around 255 and the size of a segment, many frames.
    func messages(_ count: Int, large: Bool = true, using generator: inout SeededGenerator) -> [Message] {
        (0..<count).map { _ in
            (0..<Int.random(in: 1...8, using: &generator)).map { _ in
                let length =
                    switch Int.random(in: 0..<10, using: &generator) {
                    case 0: 0
                    case 1: Int.random(in: 250...260, using: &generator)
                    case 2 where large: OutgoingQueue.largeFrame + Int.random(in: -2...2, using: &generator)
                    default: Int.random(in: 1...100, using: &generator)
                    }
                return ByteBuffer(repeating: UInt8.random(in: 0...255, using: &generator), count: length)
            }
        }
    }

    func pieces(using generator: inout SeededGenerator) -> [Int] {
        let largest = [1, 10, 1000, 100_000][Int.random(in: 0..<4, using: &generator)]
        // Hundreds of small pieces, then the rest.
        return (0..<300).map { _ in Int.random(in: 1...largest, using: &generator) } + [.max]
    }

    @Test("What is queued comes out of the decoder again, however it is cut", arguments: UInt64(0)..<100)
    func roundTrip(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let sent = self.messages(10, using: &generator)
        var queue = OutgoingQueue()
        for message in sent { queue.append([ByteBuffer("skipped")] + message, from: 1) }
        #expect(queue.messages == sent.count)
        var bytes: [UInt8] = []
        var announced = queue.bytes
        while let next = queue.next() {
            bytes += next.array
            announced -= next.readableBytes
            #expect(queue.bytes == announced)
            queue.recycle(next)
        }
        #expect(queue.messages == 0 && queue.bytes == 0 && queue.isEmpty)

        var session = Session(socketType: .dealer, identity: ByteBuffer(), limits: Self.limits)
        let (events, violation) = session.feed(handshake(as: "ROUTER") + bytes, pieces: self.pieces(using: &generator))
        #expect(violation == nil)
        #expect(events.dropFirst(2) == sent.map { .message($0) }[...], "replay: seed \(seed)")
    }

    /// A stream with a bit of everything.
    func stream(_ type: String, using generator: inout SeededGenerator) -> [UInt8] {
        var bytes = handshake(as: type, identity: "peer")
        for message in self.messages(4, large: false, using: &generator) {
            var queue = OutgoingQueue()
            queue.append(message)
            while let next = queue.next() { bytes += next.array }
            let command: Command =
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: .ping(timeToLive: 3, context: ByteBuffer("context"))
                case 1: .subscribe(ByteBuffer("topic"))
                case 2: .cancel(ByteBuffer("topic"))
                case 3: .unknown(name: "NOVELTY")
                default: .pong(context: ByteBuffer())
                }
            bytes += command.encoded().array
        }
        return bytes
    }

    @Test("Mutated bytes are judged the same however they are cut, and never crash", arguments: UInt64(0)..<100)
    func mutations(seed: UInt64) {
        var generator = SeededGenerator(seed: seed &+ 1_000_000)
        let type = SocketType.allCases.randomElement(using: &generator)!
        let peer: [SocketType: String] = [.router: "DEALER", .dealer: "ROUTER", .pub: "SUB", .xpub: "SUB", .sub: "PUB"]
        for _ in 0..<40 {
            var bytes = self.stream(peer[type]!, using: &generator)
            for _ in 0..<Int.random(in: 0...4, using: &generator) {
                // Mostly in headers, which matter most: they are near the beginning and follow each other closely.
                let index = Int.random(in: 0..<min(bytes.count, Bool.random(using: &generator) ? 300 : .max), using: &generator)
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 2: bytes.remove(at: index)
                case 3: bytes.insert(UInt8.random(in: 0...9, using: &generator), at: index)
                default: bytes.removeLast(min(bytes.count - 1, Int.random(in: 0...50, using: &generator)))
                }
            }
            var whole = Session(socketType: type, identity: ByteBuffer(), limits: Self.limits)
            var cut = whole
            whole.envelope = ByteBuffer("envelope")
            cut.envelope = whole.envelope
            let expected = whole.feed(bytes)
            let found = cut.feed(bytes, pieces: self.pieces(using: &generator))
            #expect(found.events == expected.events, "replay: seed \(seed)")
            #expect(found.violation == expected.violation, "replay: seed \(seed)")
        }
    }

    @Test("Noise after a good greeting never crashes", arguments: UInt64(0)..<100)
    func noise(seed: UInt64) {
        var generator = SeededGenerator(seed: seed &+ 2_000_000)
        for _ in 0..<50 {
            var session = Session(socketType: .router, identity: ByteBuffer(), limits: Self.limits)
            let noise = (0..<500).map { _ in
                // Low values make plausible headers.
                UInt8.random(in: 0...(Bool.random(using: &generator) ? 7 : 255), using: &generator)
            }
            _ = session.feed((Bool.random(using: &generator) ? handshake(as: "DEALER") : []) + noise, pieces: [13])
        }
    }

    @Test("A set of subscriptions matches as a list of prefixes does", arguments: UInt64(0)..<50)
    func subscriptions(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var set = SubscriptionSet()
        var model: Set<String> = []
        func word() -> String {
            String((0..<Int.random(in: 0...4, using: &generator)).map { _ in "ab".randomElement(using: &generator)! })
        }
        for _ in 0..<300 {
            let prefix = word()
            if Bool.random(using: &generator) {
                let isNew = set.insert(ByteBuffer(prefix))
                #expect(isNew == model.insert(prefix).inserted)
            } else {
                let wasThere = set.remove(ByteBuffer(prefix))
                #expect(wasThere == (model.remove(prefix) != nil))
            }
            let topic = word()
            #expect(set.matches(ByteBuffer(topic)) == model.contains { topic.hasPrefix($0) }, "\(topic) in \(model)")
        }
        for prefix in model { _ = set.remove(ByteBuffer(prefix)) }
        #expect(set.prefixes.isEmpty)
        #expect(set.size == 0)
    }
}
