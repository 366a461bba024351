import ApusWire
import Foundation
import NIOCore
import Testing

@Suite("Messages")
struct MessageTests {
    private let session = Session(
        id: "0123abcd-0123456789abcdef01234567", username: "anna", signer: (try? Signer(key: "secret")) ?? .unsigned)

    @Test("A message that we make is one that Python reads")
    func makes() throws {
        let date = try #require(WireDate("2026-01-02T03:04:05.678901Z"))
        let message = self.session.message(
            .applyRequest, id: MessageID("abc_1"), identities: [ByteBuffer(string: "engine")], buffers: [ByteBuffer(string: "x")],
            date: date)
        #expect(
            try JSONValue(parsing: message.header) == [
                "msg_id": "abc_1", "msg_type": "apply_request", "username": "anna",
                "session": "0123abcd-0123456789abcdef01234567",
                "date": "2026-01-02T03:04:05.678901Z", "version": "5.4",
            ])
        #expect(try Message(frames: message.frames) == message)
        #expect(self.session.signer.accepts(message.signature, for: message.parts))
    }

    @Test("Message ids differ, and hold only letters, digits and underscores")
    func ids() {
        var session = self.session
        let ids = Set((0..<1000).map { _ in session.nextMessageID().text })
        #expect(ids.count == 1000)
        #expect(ids.allSatisfy { $0.utf8.count <= 15 && $0.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" } })
    }

    @Test("A changed part, a wrong, empty, upper-case or shortened signature is not accepted")
    func wrongSignatures() throws {
        var session = self.session
        let message = session.message(.applyRequest, content: ["a": 1])
        var parts = message.parts
        parts.content = ByteBuffer(string: "{\"a\": 2}")
        #expect(!session.signer.accepts(message.signature, for: parts))
        let text = String(buffer: message.signature)
        for wrong in ["", text.uppercased(), String(text.dropLast()), text + "0", String(repeating: "0", count: 64)] {
            #expect(!session.signer.accepts(ByteBuffer(string: wrong), for: message.parts))
        }
        #expect(Signer.unsigned.accepts(ByteBuffer(), for: message.parts))
    }

    @Test("An unknown signature scheme is refused by name")
    func unknownScheme() {
        #expect(throws: WireError.self) { try Signer(key: "k", scheme: "hmac-crc32") }
    }

    @Test("Frames without a delimiter, or too few after it, are no message")
    func truncated() {
        let delimiter = Message.delimiterFrame
        let frame = ByteBuffer(string: "{}")
        #expect(throws: WireError.self) { try Message(frames: []) }
        #expect(throws: WireError.self) { try Message(frames: [frame, frame]) }
        #expect(throws: WireError.self) { try Message(frames: [frame, delimiter, frame, frame, frame, frame]) }
    }

    @Test("A signature seen before is known, and the oldest are forgotten")
    func replay() throws {
        var memory = ReplayMemory(limit: 3)
        func signature(_ number: Int) -> ByteBuffer {
            let text = String(number)
            return ByteBuffer(string: text + String(repeating: "0", count: 64 - text.count))
        }
        let answers = [1, 2, 3, 1, 4, 1, 4].map { memory.remember(signature($0)) }
        #expect(answers == [true, true, true, false, true, true, false])
        let (empty, again) = (memory.remember(ByteBuffer()), memory.remember(ByteBuffer()))
        #expect(empty && again)
    }

    @Test(
        "Dates are read in every spelling that peers use",
        arguments: [
            ("2026-11-23T10:55:57.780493Z", "2026-11-23T10:55:57.780493Z"),
            ("2026-11-23T10:55:57Z", "2026-11-23T10:55:57.000000Z"),
            ("2026-11-23T10:55:57.5+01:30", "2026-11-23T09:25:57.500000Z"),
            ("2024-02-29T23:59:59.123456789-0100", "2024-03-01T00:59:59.123456Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ])
    func dates(text: String, meaning: String) {
        #expect(WireDate(text)?.description == meaning)
    }

    @Test(
        "A text that is no date is not read as one",
        arguments: ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx"])
    func noDates(text: String) {
        #expect(WireDate(text) == nil)
    }
}

@Suite("Connection files")
struct ConnectionFileTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    @Test("A file with a key is its owner's alone, and replaces the old one whole")
    func ownersOnly() throws {
        try self.withFolder { folder in
            let path = folder + "/client.json"
            try PrivateFile.write("old", to: path)
            try PrivateFile.write("{\"a\": 1}", to: path)
            #expect(try PrivateFile.readJSON(path) == ["a": 1])
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["client.json"])
        }
    }

    @Test("A torn file, a missing one and one of the wrong kind each say what is wrong")
    func torn() throws {
        try self.withFolder { folder in
            let path = folder + "/client.json"
            #expect(throws: WireError.self) { try PrivateFile.readJSON(path) }
            for text in ["", "{\"key\": \"ab", "[1]"] {
                try PrivateFile.write(text, to: path)
                let error = #expect(throws: WireError.self) { try PrivateFile.readJSON(path) }
                #expect(error?.description.contains(path) == true)
            }
        }
    }

    @Test("A missing or impossible port, a foreign packer and a foreign transport are named")
    func badFields() throws {
        let file = try #require(Vectors.load("connection_files")["client"]?.object)
        for (key, value, word) in [
            ("task", JSONValue.null, "task"), ("mux", 70000, "70000"), ("pack", "pickle", "pickle"),
            ("interface", "ipc:///x", "ipc"),
        ] {
            var changed = file
            changed[key] = value
            let error = #expect(throws: WireError.self) { try ClientConnectionInfo(.object(changed)) }
            #expect(error?.description.contains(word) == true)
        }
    }

    @Test("The profile's folders are made, the ones with secrets for their owner only")
    func folders() throws {
        try self.withFolder { folder in
            let profile = ProfileDirectory(path: folder + "/profile_x")
            try profile.create()
            #expect(try FileManager.default.attributesOfItem(atPath: profile.security)[.posixPermissions] as? Int == 0o700)
            #expect(profile.clientFile(clusterID: "") == folder + "/profile_x/security/ipcontroller-client.json")
            #expect(profile.engineFile(clusterID: "a") == folder + "/profile_x/security/ipcontroller-a-engine.json")
            #expect(profile.clusterFile(clusterID: "") == folder + "/profile_x/security/cluster-.json")
            #expect(profile.engineStateFile(clusterID: "a") == folder + "/profile_x/log/enginesa.json")
        }
    }

    @Test("A wildcard address means this machine when the location does")
    func addresses() throws {
        #expect(try HostAddress.reachable(interface: "tcp://10.0.0.7", location: "x") == "10.0.0.7")
        #expect(try HostAddress.reachable(interface: "tcp://[::1]", location: "x") == "::1")
        #expect(try HostAddress.reachable(interface: "tcp://::1", location: "x") == "::1")
        #expect(try HostAddress.reachable(interface: "tcp://*", location: "[fd00::7]") == "fd00::7")
        #expect(try HostAddress.reachable(interface: "tcp://[::]", location: "localhost") == "127.0.0.1")
        #expect(try HostAddress.reachable(interface: "tcp://*", location: "") == "127.0.0.1")
        #expect(try HostAddress.reachable(interface: "tcp://0.0.0.0", location: HostAddress.hostName) == "127.0.0.1")
        #expect(throws: WireError.self) { try HostAddress.reachable(interface: "tcp://*", location: "no-such-host.invalid") }
    }

    @Test("A controller behind an SSH server is refused with what to do, unless it is on this machine")
    func tunnels() throws {
        var common = ConnectionCommon(
            interface: "tcp://127.0.0.1", registration: 1, key: "k", signatureScheme: "hmac-sha256",
            location: "no-such-host.invalid")
        try HostAddress.requireNoTunnel(common)
        common.ssh = "me@gate"
        let error = #expect(throws: WireError.self) { try HostAddress.requireNoTunnel(common) }
        #expect("\(try #require(error))".contains("through 'me@gate'"))
        common.location = HostAddress.hostName
        try HostAddress.requireNoTunnel(common)
    }
}
