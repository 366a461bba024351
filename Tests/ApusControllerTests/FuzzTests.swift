import Logging
import ApusStore
import ApusController
import ApusTransport
import ApusCore
import ApusWire
import NIOCore
import Testing

/// Makes messages that a controller must survive: noise, forgeries, and signed nonsense.
private struct Nonsense {
    var random: SeededGenerator
    let world: World
    /// Messages that have passed once, to be replayed.
    var played: [[ByteBuffer]] = []

    static let types = [
        "registration_request", "unregistration_request", "connection_request", "queue_request", "load_request", "result_request",
        "history_request", "db_request", "purge_request", "resubmit_request", "become_dask_request", "apply_request",
        "execute_request", "abort_request", "clear_request", "signal_request", "apply_reply", "stream", "shutdown_reply",
        "apus_recall_request", "apus_recall_reply", "", "\u{0}", "x",
    ]
    static let members = [
        "uuid", "id", "targets", "verbose", "msg_ids", "engine_ids", "query", "keys", "status_only", "after", "follow", "timeout",
        "retries", "msg_id", "msg_type", "session", "date", "original_msg_id", "is_coalescing", "is_broadcast", "status", "apus",
        "broadcast_targets", "apus_priority", "dependencies", "name", "text",
    ]

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self.random) < percent }

    mutating func bytes(_ limit: Int) -> ByteBuffer {
        ByteBuffer(
            bytes: (0..<Int.random(in: 0...limit, using: &self.random)).map { _ in UInt8.random(in: 0...255, using: &self.random)
            })
    }

    mutating func value(depth: Int = 0) -> JSONValue {
        switch Int.random(in: 0..<(depth > 3 ? 7 : 9), using: &self.random) {
        case 0: return .null
        case 1: return .bool(self.chance(50))
        case 2: return .int([0, -1, 1, .max, .min, 1 << 40].randomElement(using: &self.random) ?? 0)
        case 3: return .double([0.5, -1e300, 1e-300, 1e300].randomElement(using: &self.random) ?? 0)
        case 4:
            return .string(
                ["", "ada", "all", "\u{0}", "$gt", String(repeating: "é", count: 3000)].randomElement(using: &self.random) ?? "")
        case 5: return .string(Self.members.randomElement(using: &self.random) ?? "")
        case 6: return .string("ada")
        case 7: return .array((0..<Int.random(in: 0...4, using: &self.random)).map { _ in self.value(depth: depth + 1) })
        default: return self.object(depth: depth + 1)
        }
    }

    mutating func object(depth: Int = 0) -> JSONValue {
        var members: JSONObject = [:]
        for _ in 0..<Int.random(in: 0...5, using: &self.random) {
            members[Self.members.randomElement(using: &self.random) ?? ""] = self.value(depth: depth)
        }
        return .object(members)
    }

    mutating func part() -> ByteBuffer {
        switch Int.random(in: 0..<10, using: &self.random) {
        case 0: return self.bytes(64)
        case 1: return ByteBuffer(string: String(repeating: "[", count: 20_000))
        case 2: return ByteBuffer(string: #"{"a":"\ud800", "b":1e999, "a":{}}"#)
        case 3: return ByteBuffer(string: #"{"msg_ids""#)
        default: return self.object().packed
        }
    }

    mutating func header() -> ByteBuffer {
        if self.chance(15) { return self.part() }
        var members: JSONObject = [
            "msg_id": .string("m\(UInt64.random(in: 0 ... .max, using: &self.random))"),
            "msg_type": .string(Self.types.randomElement(using: &self.random) ?? ""), "session": "s", "username": "u",
            "date": "2026-01-01T00:00:00Z", "version": "5.4",
        ]
        if self.chance(10) { members["msg_id"] = self.value() }
        return JSONValue.object(members).packed
    }

    /// A message that is signed properly and has any content.
    mutating func signed() -> [ByteBuffer] {
        let parts = MessageParts(header: self.header(), parent: self.part(), metadata: self.part(), content: self.part())
        var frames = self.world.signed(parts).frames
        for _ in 0..<Int.random(in: 0...3, using: &self.random) { frames.append(self.bytes(100)) }
        for _ in 0..<Int.random(in: 0...3, using: &self.random) {
            frames.insert(self.chance(50) ? ByteBuffer(string: "ada") : self.bytes(300), at: 0)
        }
        self.played.append(frames)
        return frames
    }

    /// A message that must be dropped: it is not signed with the key, or not whole.
    mutating func forged() -> [ByteBuffer] {
        switch Int.random(in: 0..<6, using: &self.random) {
        case 0: return (0..<Int.random(in: 1...12, using: &self.random)).map { _ in self.bytes(200) }
        case 1: return Array(self.signed().prefix(Int.random(in: 0...5, using: &self.random)))
        case 2:
            // One bit of the signed parts is changed.
            var frames = self.signed()
            guard let start = frames.firstIndex(of: Message.delimiterFrame) else { return frames }
            frames[start + Int.random(in: 2...5, using: &self.random)].writeInteger(UInt8(32))
            return frames
        case 3:
            var frames = self.signed()
            guard let start = frames.firstIndex(of: Message.delimiterFrame) else { return frames }
            frames[start + 1] =
                [ByteBuffer(), ByteBuffer(string: String(buffer: frames[start + 1]).uppercased() + "F"), self.bytes(64)]
                .randomElement(using: &self.random) ?? ByteBuffer()
            return frames
        case 4: return Array(repeating: Message.delimiterFrame, count: Int.random(in: 1...9, using: &self.random))
        default: return Array(repeating: ByteBuffer(), count: Int.random(in: 1...50, using: &self.random))
        }
    }
}

@Suite("A peer that reaches a port")
struct FuzzTests {
    private static func ports(_ world: World) -> [Int] {
        [
            world.client.common.registration, world.client.mux, world.client.task, world.client.control,
            world.client.broadcast ?? 0,
            world.engine.mux, world.engine.task, world.engine.control, world.engine.heartbeatPong,
        ] + world.engine.broadcast
    }

    /// Checks that a client and a new engine are still served.
    private func checkService(_ world: World, _ name: String) async throws {
        let engine = try await world.startEngine(name)
        let query = world.socket(.dealer, world.client.common.registration)
        #expect(
            try await query.ask(world.message(.connectionRequest)).json["engines"]?.object?.values.contains(.string(name)) == true
        )
        let client = world.socket(.dealer, world.client.mux)
        let request = world.message(.applyRequest, identities: [ByteBuffer(string: name)])
        client.send(request)
        engine.mux.send(engine.reply(to: try await engine.mux.next()))
        #expect(try await client.next().parent.textMember("msg_id") == request.id)
        let tasks = world.socket(.dealer, world.client.task)
        // Nonsense may wait for engines too, so the task names its own.
        let task = world.message(.applyRequest, metadata: ["targets": [.string(name)]])
        tasks.send(task)
        var arrived = try await engine.task.next()
        while arrived.id != task.id {
            engine.task.send(engine.reply(to: arrived))
            arrived = try await engine.task.next()
        }
        engine.task.send(engine.reply(to: arrived))
        #expect(try await tasks.next().parent.textMember("msg_id") == task.id)
    }

    @Test("Without the key gets no answer and changes nothing", arguments: UInt64(0)..<4)
    func forgeries(seed: UInt64) async throws {
        let world = try await World()
        var nonsense = Nonsense(random: SeededGenerator(seed: seed), world: world)
        let peers = Self.ports(world).map { world.socket(.dealer, $0, identity: "mallory") }
        let publisher = world.socket(.publisher, world.engine.iopub)
        let listener = world.socket(.subscriber, world.client.iopub)
        for _ in 0..<150 {
            for peer in peers { peer.send(nonsense.forged()) }
            publisher.send(nonsense.forged())
        }
        try await self.checkService(world, "bob")
        #expect(peers.map(\.received) == peers.map { _ in 0 }, "replay: seed \(seed)")
        #expect(listener.received == 0, "replay: seed \(seed)")
        #expect(await world.service.badMessages > 100)
        await world.stop()
    }

    @Test("With the key does not stop the service, whatever nonsense it sends", arguments: UInt64(0)..<4)
    func signedNonsense(seed: UInt64) async throws {
        let world = try await World()
        _ = try await world.startEngine("ada")
        var nonsense = Nonsense(random: SeededGenerator(seed: seed), world: world)
        let peers = Self.ports(world).enumerated().map { world.socket(.dealer, $1, identity: "mallory\($0)") }
        let publisher = world.socket(.publisher, world.engine.iopub)
        for _ in 0..<150 {
            for peer in peers {
                peer.send(nonsense.signed())
                if nonsense.chance(20), let again = nonsense.played.randomElement(using: &nonsense.random) { peer.send(again) }
            }
            publisher.send(nonsense.signed())
        }
        try await self.checkService(world, "bob")
        await world.stop()
    }

    @Test("Cannot have a message done twice by playing it again")
    func replay() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.mux)
        let request = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])
        client.send(request)
        client.send(request)
        let last = world.message(.applyRequest, identities: [ByteBuffer(string: "ada")])
        client.send(last)
        #expect(try await engine.mux.next().id == request.id)
        #expect(try await engine.mux.next().id == last.id)
        await world.stop()
    }
}
