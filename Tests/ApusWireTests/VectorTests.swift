import ApusWire
import Foundation
import NIOCore
import Testing

/// Frames captured from Python's own programs, kept beside the tests.
enum Vectors {
    static func load(_ name: String) throws -> JSONValue {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        return try JSONValue(parsing: String(contentsOf: folder.appending(path: "Vectors/\(name).json"), encoding: .utf8))
    }

    struct Captured {
        let exchange: String
        let frames: [ByteBuffer]
        let decoded: JSONValue
    }

    static func messages(_ file: String) throws -> (key: String, messages: [Captured]) {
        let vectors = try Self.load(file)
        var captured: [Captured] = []
        for exchange in vectors["exchanges"]?.array ?? [] {
            for message in exchange["messages"]?.array ?? [] {
                let frames = (message["frames"]?.array ?? []).map { frame in
                    ByteBuffer(bytes: Data(base64Encoded: frame.string ?? "") ?? Data())
                }
                captured.append(
                    Captured(exchange: exchange["name"]?.string ?? "", frames: frames, decoded: message["decoded"] ?? .null))
            }
        }
        return (vectors["key"]?.string ?? "", captured)
    }

    static let exchangeFiles = ["registration", "apply", "execute", "task", "broadcast", "control", "hub_queries"]
}

@Suite("What Python's programs put on the wire")
struct VectorTests {
    @Test("Every captured message decodes to what was noted, and its signature holds", arguments: Vectors.exchangeFiles)
    func decodes(file: String) throws {
        let (key, captured) = try Vectors.messages(file)
        let signer = try Signer(key: key)
        var count = 0
        for item in captured where item.decoded["header"] != nil {
            let message = try Message(frames: item.frames)
            #expect(signer.accepts(message.signature, for: message.parts))
            #expect(try JSONValue(parsing: message.header) == item.decoded["header"])
            #expect(try JSONValue(parsing: message.parent) == item.decoded["parent_header"])
            #expect(try JSONValue(parsing: message.metadata) == item.decoded["metadata"])
            #expect(try JSONValue(parsing: message.content) == item.decoded["content"])
            #expect(message.buffers.map { JSONValue.int($0.readableBytes) } == item.decoded["buffer_lengths"]?.array)
            let header = try MessageHeader(scanning: message.header)
            #expect(header.id.text == item.decoded["header"]?["msg_id"]?.string)
            #expect(header.type.rawValue == item.decoded["header"]?["msg_type"]?.string)
            #expect(header.session == item.decoded["header"]?["session"]?.string)
            #expect(header.date?.description == item.decoded["header"]?["date"]?.string)
            #expect(MessageHeader.messageID(scanning: message.parent)?.text == item.decoded["parent_header"]?["msg_id"]?.string)
            count += 1
        }
        #expect(count > 0)
    }

    @Test("A captured message, unpacked and packed again, means the same and is signed anew", arguments: Vectors.exchangeFiles)
    func reencodes(file: String) throws {
        let (key, captured) = try Vectors.messages(file)
        let session = Session(signer: try Signer(key: key))
        for item in captured where item.decoded["header"] != nil {
            let message = try Message(frames: item.frames)
            let parts = MessageParts(
                header: try JSONValue(parsing: message.header).packed, parent: try JSONValue(parsing: message.parent).packed,
                metadata: try JSONValue(parsing: message.metadata).packed, content: try JSONValue(parsing: message.content).packed
            )
            let again = session.signed(parts, identities: Array(message.identities), buffers: Array(message.buffers))
            #expect(session.signer.accepts(again.signature, for: again.parts))
            #expect(try JSONValue(parsing: again.header) == item.decoded["header"])
            #expect(try JSONValue(parsing: again.metadata) == item.decoded["metadata"])
            #expect(try JSONValue(parsing: again.content) == item.decoded["content"])
            #expect(again.identities == message.identities)
        }
    }

    @Test("Signatures are what Python computes, for each digest and for no key")
    func signatures() throws {
        for vector in try Vectors.load("hmac")["vectors"]?.array ?? [] {
            let frames = (vector["frames_utf8"]?.array ?? []).map { ByteBuffer(string: $0.string ?? "") }
            let parts = MessageParts(header: frames[0], parent: frames[1], metadata: frames[2], content: frames[3])
            let signer = try Signer(key: vector["key"]?.string ?? "", scheme: vector["scheme"]?.string ?? "")
            #expect(String(buffer: signer.signature(of: parts)) == vector["signature"]?.string, "\(vector["name"] ?? .null)")
        }
    }

    @Test("The captured connection files are read whole and written with the same keys")
    func connectionFiles() throws {
        let files = try Vectors.load("connection_files")
        let client = try #require(files["client"])
        let engine = try #require(files["engine"])
        #expect(try ClientConnectionInfo(client).json == client)
        #expect(try EngineConnectionInfo(engine).json == engine)
    }
}
